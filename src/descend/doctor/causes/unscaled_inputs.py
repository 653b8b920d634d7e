"""Inputs whose scales differ, or are far from 1."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["UnscaledInputs"]


@method(
    row="I3",
    reference="LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp",
    formula="the Hessian of a layer is proportional to E[x x^T]: its condition number is that of the inputs",
)
class UnscaledInputs(Cause):
    """The columns of the inputs have different scales, or values that are far from 1.

    The loss is then steep along the weights of large columns and flat along the others, and one learning rate is too large
    for the former or too small for the latter.
    """

    title = "The inputs are not scaled."
    advice = "Standardize each column with the mean and the standard deviation of the training rows."
    explains = (
        "learning_rate_too_high", "learning_rate_too_low", "exploding_gradients", "vanishing_gradients", "dead_units",
        "bad_initialization", "saturated_units",
    )  # fmt: skip

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Measure the scales, and whether standardized inputs train better."""
        inputs = program.inputs
        if not inputs.is_floating_point() or inputs.dim() < 2:
            return None
        columns = inputs.flatten(1) if inputs.dim() == 2 else inputs.transpose(0, 1).flatten(1).T
        deviations = columns.std(0, correction=0)
        deviations = deviations[deviations > 0]
        if not len(deviations):
            return None
        ratio = float(deviations.max() / deviations.quantile(0.1).clamp_min(1e-30))
        largest = float(columns.abs().max())
        off = largest > 30 or float(deviations.max()) < 0.02
        if ratio < 50 and not off:
            return None
        gain = program.gain(program.trial(scaled=True))
        if gain < 0.3:
            return None
        evidence = [
            f"standard deviations from {float(deviations.min()):.3g} to {float(deviations.max()):.3g}"
        ]
        evidence.append(f"the largest magnitude is {largest:.3g}")
        evidence.append(
            f"in a short training, standardized inputs gained {round(100 * gain)} % of the possible progress"
        )
        return cls.found(min(0.95, 0.6 + 0.35 * gain), *evidence, remedy={"data.scale": "standard"})

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """Standardized inputs, where the recipe does not scale them."""
        if case.value("data.scale") != "none":
            return []
        return [
            cls.proposal(
                {"data.scale": "standard"}, "the recipe does not scale the inputs (data.scale = none)"
            )
        ]
