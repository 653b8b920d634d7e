"""A learning rate that is too high."""

from __future__ import annotations

import itertools
import math

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["LearningRateTooHigh"]


@method(
    row="I1",
    reference="the lecture, diagnosis of the learning rate",
    formula="F(w + s d) rises for s = 1 and falls for s = 1/4",
)
class LearningRateTooHigh(Cause):
    """Steps overshoot: the loss oscillates on a plateau, rises, or becomes infinite.

    Along the step that the optimizer takes, the loss falls at first and rises before its end. With a lower learning rate the
    same steps lower the loss.
    """

    title = "The learning rate is too high."
    advice = "Lower the learning rate."
    explains = ("exploding_gradients", "dead_units", "saturated_units")

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare short trainings at the given and at lower learning rates."""
        if program.optimizer is None:
            return None
        gains = {factor: program.gain(program.trial(factor)) for factor in (0.3, 0.1, 0.01, 0.001)}
        factor = min(gains, key=lambda each: program.trial(each).after)
        if gains[factor] < 0.5:
            return None
        rate = program.optimizer.param_groups[0].get("lr", float("nan"))
        trial = program.trial()
        reached = (
            "a loss that is not finite" if not math.isfinite(trial.after) else f"a loss of {trial.after:.4g}"
        )
        evidence = [
            f"{len(trial.losses)} steps at {rate:.3g} reach {reached}, at {rate * factor:.3g} "
            f"{program.trial(factor).after:.4g}; before them it is {trial.before:.4g}"
        ]
        losses = program.step_losses
        if losses and not losses[1.0] < losses[0.0]:
            evidence.append(
                f"along the first step the loss goes from {losses[0.0]:.4g} to {losses[1.0]:.4g}, "
                f"at a quarter of it {losses[0.25]:.4g}"
            )
        return cls.found(
            min(0.95, 0.55 + 0.4 * gains[factor]), *evidence, remedy={"optimizer.lr": rate * factor}
        )

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """Lower learning rates, for any run with one."""
        rate = case.value("optimizer.lr")
        if not isinstance(rate, float | int) or not rate > 0:
            return []
        evidence = ["training diverged"] if case.run.failed else _unrest(case.curve("train"))
        factors = (0.1, 0.01, 1e-3, 1e-4, 1e-5, 1e-6) if case.run.failed else (0.3, 0.1, 0.01, 1e-3)
        return [cls.proposal({"optimizer.lr": rate * factor}, *evidence) for factor in factors]


def _unrest(losses: list[float]) -> list[str]:
    """Return a sentence where the training loss rises in many epochs."""
    rises = sum(after > before for before, after in itertools.pairwise(losses))
    if len(losses) < 5 or rises < 0.3 * len(losses):
        return []
    return [f"the training loss rose in {rises} of {len(losses) - 1} epochs"]
