"""Probabilities where the loss expects logits, or the reverse."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.function_calls import loss_record
from descend.doctor.loop_record import LoopRecord, LossRecord
from descend.doctor.program import Program

__all__ = ["LossInputMismatch"]


@method(
    row="I3",
    reference="PyTorch's documentation of CrossEntropyLoss",
    formula="cross_entropy(softmax(z)) = log sum_j exp(p_j) - p_y >= log(e + K - 1) - 1",
)
class LossInputMismatch(Cause):
    """A softmax or a sigmoid stands before a loss that contains one.

    ``cross_entropy`` and ``binary_cross_entropy_with_logits`` expect raw outputs. Of probabilities the loss cannot fall below
    log(e + K - 1) - 1 for K classes, and its gradients are small. ``nll_loss`` expects logarithms of probabilities.
    """

    title = "The loss expects raw outputs (logits) and gets probabilities."
    advice = "Remove the softmax or sigmoid before the loss, and apply it to predictions only."
    explains = ("learning_rate_too_low", "vanishing_gradients")

    @classmethod
    def in_loop(cls, loop: LoopRecord) -> Finding | None:
        """Look at what was passed to the losses."""
        found = [(each, _wrong(each)) for each in loop.losses]
        wrong = [(each, reason) for each, reason in found if reason]
        if not wrong or len(wrong) < 0.9 * len([each for each, _ in found if each.name == wrong[0][0].name]):
            return None
        each, reason = wrong[-1]
        return cls._described(each, reason, 0.97 if each.after else 0.9 if len(wrong) > 1 else 0.7)

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Look at what is passed to the loss."""
        if program.call is None:
            return None
        record = loss_record(program.call)
        reason = _wrong(record)
        return cls._described(record, reason, 0.97 if record.after else 0.85) if reason else None

    @classmethod
    def _described(cls, each: LossRecord, reason: str, certainty: float) -> Finding:
        if each.name == "nll_loss":
            return cls.found(
                0.95,
                reason,
                title="The loss expects logarithms of probabilities and gets something else.",
                advice="Use cross_entropy on raw outputs, or log_softmax before nll_loss.",
            )
        return cls.found(certainty, reason)


def _wrong(call: LossRecord) -> str:
    """Return what is wrong with the input of a loss; "" for nothing."""
    result = f"{call.name} got the result of {call.after}"
    if call.name == "cross_entropy" and (call.after in ("softmax", "sigmoid") or call.probabilities):
        return result if call.after else "cross_entropy got rows of probabilities"
    if call.name == "binary_cross_entropy_with_logits":
        if call.after in ("softmax", "sigmoid"):
            return result
        if call.unit_interval and call.predictions[0] >= 8:
            return f"{call.name} got values between 0 and 1"
    if call.name == "nll_loss" and call.after != "log_softmax" and (call.after or call.value < 0):
        return result if call.after else "nll_loss got values that are not logarithms of probabilities"
    return ""
