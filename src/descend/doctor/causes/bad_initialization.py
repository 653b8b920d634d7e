"""Initial weights that are constant, too large or too small."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import listed
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["BadInitialization"]


@method(
    row="I3",
    reference="Glorot and Bengio 2010; He et al. 2015",
    formula="Var(w) far from 2/fan_in, or w_ij = c",
)
class BadInitialization(Cause):
    """The initial weights are equal, too large or too small.

    Units with equal weights receive equal gradients and stay equal. Weights that are too large saturate units and start
    with a loss far above that of a constant; with weights that are too small neither signals nor gradients pass the layers.
    """

    title = "The initial weights are not suitable."
    advice = "Use the initialization of the layers' activation, such as kaiming_normal for relu."
    explains = (
        "vanishing_gradients", "exploding_gradients", "dead_units", "saturated_units", "learning_rate_too_low",
        "learning_rate_too_high", "network_too_small",
    )  # fmt: skip

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Look at the weights, and whether PyTorch's own initialization trains better."""
        weights = [
            (name, p) for name, p in program.model.named_parameters() if p.dim() > 1 and p.shape[0] > 1
        ]
        equal = [name for name, p in weights[:-1] if p.numel() > 1 and float(p.detach().std()) == 0.0]
        sizes = [float(p.detach().float().std()) * p[0].numel() ** 0.5 for _, p in weights if p.numel() > 1]
        if equal:
            return cls.found(
                0.95, f"all weights are equal in {listed(equal)}", title="The initial weights are constant."
            )
        if not sizes or not (max(sizes) > 4 or min(sizes[:-1] or sizes) < 0.1):
            return None
        gain = program.gain(program.trial(initialized=True))
        if gain < 0.3:
            return None
        large = max(sizes) > 4
        return cls.found(
            min(0.9, 0.55 + 0.35 * gain),
            f"the standard deviation of a layer's weights is {max(sizes) if large else min(sizes):.3g}/sqrt(fan_in)",
            f"with PyTorch's initialization a short training gained {round(100 * gain)} % of the possible progress",
            title=f"The initial weights are too {'large' if large else 'small'}.",
            remedy={"init.name": "kaiming_normal"},
        )

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """The usual initialization, where the recipe has another."""
        name = case.value("init.name")
        if name in (None, "kaiming_normal"):
            return []
        return [cls.proposal({"init.name": "kaiming_normal"}, f"the recipe initializes by {name}")]
