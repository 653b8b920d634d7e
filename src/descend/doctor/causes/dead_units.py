"""Units that are 0 on every row."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["DeadUnits"]


@method(
    row="I2",
    reference="the lecture, on ReLU and friends",
    formula="relu(w^T x + b) = 0 for all rows, so its gradient is 0",
)
class DeadUnits(Cause):
    """Most units of a layer are 0 on every row, so that no gradient passes through them.

    A negative bias, weights that are too large or one large step make a unit of ReLU negative on all rows. It stays so, since
    its gradient is 0.
    """

    title = "Most units of a layer are dead: they are 0 on every row."
    advice = "Use an activation with a gradient everywhere (leaky_relu, silu), a lower learning rate or another init."
    explains = ("vanishing_gradients", "learning_rate_too_low")

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Count the units that are 0 on all rows."""
        worst = max(
            (each for each in program.observed.activations if each.units >= 4),
            key=lambda each: each.dead / each.units,
            default=None,
        )
        if worst is None or worst.dead < 0.6 * worst.units:
            return None
        return cls.found(
            0.6 + 0.35 * worst.dead / worst.units,
            f"{worst.dead} of {worst.units} units of {worst.name} are 0 on all {len(program.inputs)} rows",
            remedy={"model.activation": "leaky_relu"},
        )

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """An activation with a gradient everywhere, where many units are dead at the kept weights."""
        worst = max((each.dead / each.units for each in case.activations if each.units >= 4), default=0.0)
        if worst < 0.6:
            return []
        evidence = f"{round(100 * worst)} % of the units of a layer are 0 on all examined rows"
        return [cls.proposal({"model.activation": "silu"}, evidence)]
