"""A loss with the wrong sign."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord
from descend.doctor.program import Program

__all__ = ["LossMaximized"]


@method(row="I3", reference="folklore", formula="w <- w + lr dL/dw")
class LossMaximized(Cause):
    """Training maximizes the loss: the gradient has the wrong sign.

    A minus too many before the loss, a score that is returned as a loss, or ``maximize=True`` of the optimizer.
    """

    title = "Training maximizes the loss: the sign of the gradient is wrong."
    advice = "Remove the minus before the loss, or maximize=True of the optimizer."
    explains = ("learning_rate_too_high", "exploding_gradients")

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Compare the gradient that arrives with that of the loss."""
        factors = [each.factor for each in loop.losses if each.factor is not None]
        signs = [factor < 0 for factor in factors if factor != 0.0]
        if loop.maximize:
            signs = [not each for each in signs]
        if len(signs) < 2 or not all(signs):
            return None
        return cls.found(
            0.97,
            f"at all {len(signs)} recorded evaluations, the step was along the gradient of {loop.losses[0].name}",
        )

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the gradient that arrives with that of the loss."""
        call, optimizer = program.call, program.optimizer
        maximize = optimizer is not None and any(
            group.get("maximize", False) for group in optimizer.param_groups
        )
        if call is None or not call.factor or (call.factor < 0) == maximize:
            return None
        return cls.found(0.97, f"a step goes along the gradient of {call.name}")
