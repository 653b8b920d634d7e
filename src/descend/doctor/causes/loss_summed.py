"""A loss that is summed over rows."""

from __future__ import annotations

import statistics

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord
from descend.doctor.program import Program

__all__ = ["LossSummed"]


@method(
    row="I3",
    reference="PyTorch's documentation of the losses",
    formula="g = sum_i g_i in place of 1/b sum_i g_i",
)
class LossSummed(Cause):
    """The loss is the sum over the rows of a batch, not their mean.

    The gradient, and with SGD the step, is then as many times as large as the batch has rows, and changes with the size
    of the last batch. Methods that divide by the size of the gradient, such as Adam, do not notice.
    """

    title = "The loss is summed over the rows of a batch and not averaged."
    advice = "Use reduction='mean', or divide the learning rate by the number of rows in a batch."
    explains = ("learning_rate_too_high", "exploding_gradients")

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Compare the gradient that arrives with that of the mean."""
        ratios = [
            each.factor / each.predictions[0]
            for each in loop.losses
            if each.factor is not None and each.predictions and each.predictions[0] >= 4
        ]
        if len(ratios) < 2 or not 0.5 <= statistics.median(ratios) <= 2.0 or min(ratios) < 0.1:
            return None
        rows = loop.losses[-1].predictions[0]
        return cls.found(
            0.9,
            f"the gradient is {statistics.median(ratios) * rows:.3g} times that of the mean over {rows} rows",
        )

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the gradient of the loss with that of the mean over rows."""
        call = program.call
        if call is None or call.factor is None or call.rows < 4 or not 0.5 <= call.factor / call.rows <= 2.0:
            return None
        return cls.found(
            0.9, f"the gradient is {call.factor:.3g} times that of the mean over {call.rows} rows"
        )
