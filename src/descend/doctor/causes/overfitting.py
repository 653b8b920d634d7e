"""A network that fits the noise of its training rows."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["Overfitting"]


@method(row="I3", reference="the lecture, on regularization", formula="F_train -> 0 while F_validation rises")
class Overfitting(Cause):
    """The network fits the training rows far better than other rows.

    The validation loss rises while the training loss falls to almost nothing.
    """

    title = "The network overfits: it fits the training rows far better than others."
    advice = "Use dropout, weight decay, augmentation or early stopping, or more data."

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """More regularization and early stopping, where the validation loss rose far above its lowest."""
        validation, training = case.curve("validation"), case.curve("train")
        if case.run.failed or len(validation) < 3 or not training or training[-1] > 0.7 * validation[-1]:
            return []
        evidence = (
            f"the last training loss is {training[-1]:.3g}, that of validation {validation[-1]:.3g} "
            f"(lowest {min(validation):.3g})"
        )
        return [
            cls.proposal(
                {"model.dropout": 0.3, "regularize.weight_decay": 0.05, "stop.patience": 20}, evidence
            )
        ]
