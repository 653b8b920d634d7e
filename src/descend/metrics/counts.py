"""Weights of the rows of each class or label, the rates computed from them, and the averages of rates.

Precision, recall and the F1 score are rates of one class or label. A metric is a rate and an average: the rate of the second
class (:func:`of_second_class`), the mean of the rates (:func:`mean_of_rates`), or the rate of the total weights of all
labels (:func:`rate_of_total`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from descend.metrics.base import predicted_classes, row_weights, wide

__all__ = ["Counts", "Rate", "counts_of", "f1_of", "mean_of_rates", "of_second_class", "precision_of", "rate_of_total",
           "recall_of"]  # fmt: skip


class Counts(NamedTuple):
    """Total weights of rows by class (C,) or label (L,).

    Args:
        correct: of the rows of the class that are predicted as it.
        predicted: of the rows predicted as the class.
        actual: of the rows of the class.
    """

    correct: Tensor
    predicted: Tensor
    actual: Tensor


Rate = Callable[[Counts], Tensor]
"""Computes one number for each class or label; NaN where it is undefined."""


def counts_of(
    predictions: Tensor, targets: Tensor, weights: Tensor | None, classes: int | None = None
) -> Counts:
    """Return the weights of the rows of each class, or of each label for targets (n, L).

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1); for labels 0 or 1, (n, L).
        targets: class indices (n,); for labels 0 or 1, (n, L).
        weights: (n,), one weight per row, or None: all equal.
        classes: the number of classes. Default None: those that occur; reading their number synchronizes with the device.

    >>> counts_of(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0]), None, 2).correct.tolist()
    [1.0, 1.0]
    """
    w = row_weights(weights, len(targets), targets)
    if targets.dim() == 2:
        p, y, column = wide(predictions), wide(targets), w.unsqueeze(1)
        return Counts((column * p * y).sum(0), (column * p).sum(0), (column * y).sum(0))
    chosen, labels = predicted_classes(predictions), targets.long()
    if classes is None:
        classes = int(torch.cat([chosen, labels]).max()) + 1 if len(labels) else 0
    zeros = w.new_zeros(classes)
    return Counts(
        zeros.scatter_add(0, labels, w * (chosen == labels)),
        zeros.scatter_add(0, chosen, w),
        zeros.scatter_add(0, labels, w),
    )


def precision_of(counts: Counts) -> Tensor:
    """Return TP / (TP + FP), undefined where nothing is predicted."""
    return counts.correct / counts.predicted


def recall_of(counts: Counts) -> Tensor:
    """Return TP / (TP + FN), undefined where there are no rows."""
    return counts.correct / counts.actual


def f1_of(counts: Counts) -> Tensor:
    """Return 2 TP / (2 TP + FP + FN), undefined where there are neither rows nor predictions."""
    return 2 * counts.correct / (counts.actual + counts.predicted)


def of_second_class(rate: Rate, predictions: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the rate of the second of two classes."""
    return rate(counts_of(predictions, targets, weights, 2))[1]


def mean_of_rates(
    rate: Rate, predictions: Tensor, targets: Tensor, weights: Tensor | None, classes: int | None = None
) -> Tensor:
    """Return the mean of the rates of the classes, or of the labels for targets (n, L).

    With ``classes`` it is undefined if one of the classes has no rows; without, it is over the classes with rows. The mean
    over labels leaves out those whose rate is undefined.
    """
    counts = counts_of(predictions, targets, weights, classes)
    each, present = rate(counts), counts.actual > 0
    if targets.dim() == 2:
        return each.nanmean()
    if classes is not None:
        return torch.where(present, each, torch.nan).mean()
    return torch.where(present, each, torch.zeros_like(each)).sum() / present.sum()


def rate_of_total(rate: Rate, predictions: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the rate of the weights of all labels together, from predictions and targets (n, L)."""
    return rate(Counts(*(each.sum() for each in counts_of(predictions, targets, weights))))
