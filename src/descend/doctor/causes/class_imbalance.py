"""Classes of very different frequency."""

from __future__ import annotations

import torch
from torch import Tensor

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.runs.plan import Plan

__all__ = ["ClassImbalance"]


@method(row="I3", reference="King and Zeng 2001", formula="n_k / n of the rarest class near 0")
class ClassImbalance(Cause):
    """One class has almost all rows, so that predicting it always looks accurate.

    Accuracy hides it: look at the balanced accuracy, at average precision and at the confusion matrix.
    """

    title = "The classes are imbalanced."
    advice = "Judge by balanced accuracy or average precision, and weight the classes (data.class_weights = balanced)."

    @classmethod
    def in_data(cls, planned: Plan) -> Finding | None:
        """Count the rows of each class."""
        counts = _counts(planned)
        if counts is None or int((counts > 0).sum()) < 2:
            return None
        rarest, most = int(counts[counts > 0].min()), float(counts.max() / counts.sum())
        if most < FREQUENT or rarest >= 50:
            return None
        return cls.found(
            0.4,
            f"the most frequent class has {100 * most:.1f} % of the training rows, the rarest {rarest} rows",
            remedy={"data.class_weights": "balanced"},
        )


FREQUENT = 0.95
"""The share of the most frequent class from which classes count as imbalanced."""


def _counts(planned: Plan) -> Tensor | None:
    if planned.prepared.schema.task not in ("binary", "multiclass"):
        return None
    targets = planned.prepared.train.targets.long().flatten()
    return torch.bincount(targets, minlength=len(planned.prepared.schema.classes))
