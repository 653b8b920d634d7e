"""Predictions and targets whose shapes differ."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord
from descend.doctor.program import Program

__all__ = ["ShapesBroadcast"]


@method(
    row="I3",
    reference="PyTorch's documentation of broadcasting",
    formula="(b, 1) - (b,) has the shape (b, b): each prediction is compared with every target",
)
class ShapesBroadcast(Cause):
    """Predictions and targets have different shapes, and each prediction is compared with the targets of all rows.

    The minimum of such a loss is the mean of the targets for every row: the network learns a constant.
    """

    title = "Predictions and targets have different shapes, so each prediction is compared with targets of other rows."
    advice = "Give both the same shape: predictions.squeeze(1), or targets.unsqueeze(1)."
    explains = ("learning_rate_too_low", "network_too_small", "vanishing_gradients")

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Compare the shapes of the arguments of losses."""
        wrong = [each for each in loop.losses if each.broadcasts]
        if not wrong or len(wrong) < 0.9 * len(loop.losses):
            return None
        each = wrong[-1]
        return cls.found(0.97, f"{each.name} got predictions {each.predictions} and targets {each.targets}")

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the shapes of the arguments of the loss."""
        call = program.call
        if call is None or not call.broadcasts:
            return None
        shapes = f"predictions {tuple(call.predictions.shape)} and targets {tuple(call.targets.shape)}"
        return cls.found(0.97, f"{call.name} got {shapes}")
