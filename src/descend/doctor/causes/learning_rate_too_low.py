"""A learning rate that is too low."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["LearningRateTooLow"]

FACTORS = (10.0, 100.0, 1e3, 1e4, 1e5)
"""Higher learning rates, in those of the program."""
SHARE = 0.003
"""The share of the progress at the best of these rates below which the rate is too low. In as few steps, rates that are a tenth
of a usual one, and will do in a longer training, make about a hundredth of it."""


@method(
    row="I1",
    reference="the lecture, diagnosis of the learning rate",
    formula="F(w + s d) still falls for s = 4 and beyond",
)
class LearningRateTooLow(Cause):
    """Steps are so short that training makes almost no progress.

    A low learning rate always converges and takes very long. Along the step, the loss falls as a line far beyond its end.
    """

    title = "The learning rate is too low."
    advice = "Raise the learning rate."

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare short trainings at the given and at higher learning rates."""
        if program.optimizer is None:
            return None
        own = program.trial()
        trials = {factor: program.trial(factor) for factor in FACTORS}
        factor = min(trials, key=lambda each: trials[each].after)
        possible, reached = own.before - trials[factor].after, own.before - own.after
        if possible < 0.02 * abs(own.before) or reached > SHARE * possible:
            return None
        rate = program.optimizer.param_groups[0].get("lr", float("nan"))
        return cls.found(
            0.95 if reached < SHARE / 5 * possible else 0.75,
            f"{len(own.losses)} steps at {rate:.3g} lower the loss from {own.before:.4g} to {own.after:.4g}, at "
            f"{rate * factor:.3g} to {trials[factor].after:.4g}",
            remedy={"optimizer.lr": rate * factor},
        )

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """Higher learning rates, where training did not diverge."""
        rate = case.value("optimizer.lr")
        if case.run.failed or not isinstance(rate, float | int) or not rate > 0:
            return []
        losses = case.curve("train")
        evidence = [] if not losses else [f"the training loss went from {losses[0]:.4g} to {losses[-1]:.4g}"]
        factors = [10.0**power for power in range(1, 7) if power <= 2 or rate * 10.0**power <= 1.0]
        return [cls.proposal({"optimizer.lr": rate * factor}, *evidence) for factor in factors]
