"""Training in evaluation mode."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import listed
from descend.doctor.findings import Finding
from descend.doctor.loop_record import LoopRecord

__all__ = ["EvaluationMode"]


@method(row="I3", reference="PyTorch's documentation of Module.eval")
class EvaluationMode(Cause):
    """Steps are taken while the network is in evaluation mode.

    Dropout is then off, and batch norms use running averages that are never updated: at the start they are 0 and 1, so that
    nothing is normalized. Norms that are kept in evaluation mode while the rest of the network trains, as in fine-tuning,
    are not a fault.
    """

    title = "The network is trained in evaluation mode: dropout is off and batch norms do not see the batch."
    advice = "Call model.train() at the start of each epoch, after every evaluation."

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Look at the mode of the network in the forward passes of steps."""
        called = [(step, mode) for step, mode in enumerate(loop.modes) if mode is not None]
        inside = [step for step, mode in called if not mode]
        if not loop.changing or len(inside) < 2 or called[-1][1]:
            return None
        first = inside[0]
        if len(inside) < 0.9 * sum(step >= first for step, _ in called):
            return None
        kept = [
            step for step in loop.steps if step.training is False and set(step.in_eval) != set(loop.changing)
        ]
        if kept:  # some modules were set to training mode on purpose
            return None
        since = "from the first step" if first == 0 else f"from step {first} on, after an evaluation"
        return cls.found(
            0.95, f"{since}, the network was called in evaluation mode; affected: {listed(loop.changing)}"
        )
