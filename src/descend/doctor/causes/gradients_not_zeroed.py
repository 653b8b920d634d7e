"""Gradients that are not set to zero between steps."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord

__all__ = ["GradientsNotZeroed"]


@method(
    row="I3",
    reference="PyTorch's documentation of Optimizer.zero_grad",
    formula="the step k uses g_1 + ... + g_k in place of g_k",
)
class GradientsNotZeroed(Cause):
    """Gradients of earlier steps are still there when those of the next step arrive.

    ``backward`` adds to ``.grad``. Without ``zero_grad`` a step uses the sum of all gradients so far, a heavy ball whose
    momentum never ends: the loss falls, and then oscillates or diverges. Gradients that are accumulated on purpose, over
    several batches per step, are zero at the first ``backward`` after a step.
    """

    title = "Gradients are not set to zero between steps, so each step uses the sum of all gradients so far."
    advice = "Call optimizer.zero_grad() once per step, before backward()."
    explains = ("learning_rate_too_high", "exploding_gradients")

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Look at whether a gradient was there when the first of a step arrived."""
        seen = [step.leftover for step in loop.steps if step.number > 0 and step.leftover is not None]
        if len(seen) < 2 or not all(seen):
            return None
        return cls.found(
            0.98, f"at all {len(seen)} recorded steps the gradient of the step before was still there"
        )
