"""Training that ends too early."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["TooFewEpochs"]


@method(
    row="I3",
    reference="the lecture, diagnosis of the learning rate",
    formula="F still falls at the last epoch",
)
class TooFewEpochs(Cause):
    """Training ends while the loss still falls: by its last epoch, or by a patience that is too short.

    A curve that still slopes at its end is a sign of too few epochs.
    """

    title = "Training ended too early: the loss was still falling."
    advice = "Train for more epochs, with a patience of 20 epochs or more."

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """More epochs, where the limit ended training soon after the best one; more patience, where it is short."""
        metrics, limit = case.run.metrics, case.value("stop.max_epochs")
        epochs, best = int(metrics.get("epochs") or 0), int(metrics.get("best_epoch") or 0)
        if case.run.failed or not epochs or not isinstance(limit, int):
            return []
        if metrics.get("stopped") == "max_epochs" and best >= 0.8 * epochs:
            more = max(4 * limit, 40)
            changes: dict[str, object] = {"stop.max_epochs": more, "stop.patience": 20}
            return [
                cls.proposal(changes, f"the best epoch is {best} of {epochs}, and the limit ended training")
            ]
        patience = case.value("stop.patience")
        if metrics.get("stopped") == "patience" and isinstance(patience, int) and patience < 10:
            evidence = f"training stopped after {epochs} epochs, {patience} without an improvement"
            return [cls.proposal({"stop.patience": 20, "stop.max_epochs": max(limit, 100)}, evidence)]
        return []
