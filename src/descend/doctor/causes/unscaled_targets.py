"""Targets of a regression that are far from 0 or 1 in size."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["UnscaledTargets"]


@method(
    row="I3",
    reference="LeCun, Bottou, Orr and Mueller 1998, Efficient BackProp",
    formula="|mean(y)| or std(y) far from 1",
)
class UnscaledTargets(Cause):
    """The targets of a regression have a mean or a spread that is far from that of a network's outputs.

    The first thousand steps then move the bias of the last layer to the mean of the targets, and gradients have the scale of
    the targets.
    """

    title = "The targets are not scaled."
    advice = "Subtract the mean of the training targets and divide by their standard deviation, and undo it in predictions."
    explains = ("learning_rate_too_high", "learning_rate_too_low", "exploding_gradients")

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Measure the scale, and whether training reaches the loss of a constant."""
        if program.is_classification or not program.targets.is_floating_point():
            return None
        targets = program.targets.flatten(1) if program.targets.dim() > 1 else program.targets.unsqueeze(1)
        mean, deviation = float(targets.mean(0).abs().max()), float(targets.std(0, correction=0).max())
        if mean <= 20 and 0.01 <= deviation <= 20:
            return None
        trial = program.trial()
        if trial.after < 0.9 * program.constant:
            return None
        return cls.found(
            0.85,
            f"the mean is {mean:.3g} and the standard deviation {deviation:.3g}",
            f"{len(trial.losses)} steps reach a loss of {trial.after:.4g}; that of the best constant is {program.constant:.4g}",
            remedy={"data.target_scale": "standard"},
        )

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """Standardized targets, where the recipe does not scale them."""
        if case.run.schema.classes or case.value("data.target_scale") != "none":
            return []
        return [cls.proposal({"data.target_scale": "standard"}, "the recipe does not scale the targets")]
