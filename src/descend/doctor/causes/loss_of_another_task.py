"""A loss that belongs to another task."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["LossOfAnotherTask"]

SQUARES = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "difference")
"""Losses of regressions."""


@method(
    row="I3",
    reference="the lecture, on losses",
    formula="(f(x) - k)^2 for the class k: classes get an order and distances",
)
class LossOfAnotherTask(Cause):
    """A loss for numbers is used on class numbers.

    The squared difference of an output and the number of a class says that class 2 lies between the classes 1 and 3. Squares
    of one-hot classes are possible and train more slowly than the cross-entropy.
    """

    title = "The loss is that of a regression, and the targets are classes."
    advice = "Use one output per class and cross-entropy on raw outputs."
    explains = ("learning_rate_too_low", "unscaled_targets")

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the loss with the targets."""
        call = program.call
        if call is None or call.name not in SQUARES or not program.is_classification:
            return None
        one_hot = program.targets.dim() == 2 and program.targets.shape[1] > 1
        if one_hot:
            return cls.found(
                0.4, f"{call.name} of one-hot classes", title="Squares of one-hot classes train slowly."
            )
        if program.classes <= 2:
            return None
        integers = not program.targets.is_floating_point()
        kind = "integers" if integers else "floating-point numbers"
        return cls.found(
            0.8 if integers else 0.5, f"{call.name} of {program.classes} different values, all {kind}"
        )

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """The likelihood of the task, where the recipe has another loss."""
        usual = {"binary": "bce", "multi_label": "bce", "multiclass": "cross_entropy"}.get(
            case.run.schema.task, "mse"
        )
        name = case.value("loss.name")
        if name == usual:
            return []
        changes = {"loss.name": usual, "model.output": "auto"}
        return [cls.proposal(changes, f"the loss of a {case.run.schema.task} task is {name}")]
