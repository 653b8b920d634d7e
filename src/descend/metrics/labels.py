"""Metrics of several labels, each of which may hold or not: predictions and targets (n, L).

The others, such as the F1 score averaged over labels, take labels as well as classes.
"""

from __future__ import annotations

from torch import Tensor

from descend.cards import method
from descend.metrics.base import mean_over_rows, wide
from descend.metrics.counts import f1_of, rate_of_total

__all__ = ["f1_micro", "label_accuracy", "subset_accuracy"]


@method(
    row="K12",
    reference="sklearn.metrics.accuracy_score",
    formula="sum_i w_i [p_i = y_i] / sum_i w_i, rows of L labels",
)
def subset_accuracy(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Fraction of rows in which every label is correct.

    Args:
        predictions: 0 or 1, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> import torch
    >>> subset_accuracy(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item()
    0.5
    """
    return mean_over_rows(wide((predictions == targets).all(1)), weights)


@method(
    row="K12",
    reference="1 - sklearn.metrics.hamming_loss",
    formula="sum_i w_i mean_l [p_il = y_il] / sum_i w_i",
)
def label_accuracy(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Fraction of labels that are correct, over rows and labels.

    Args:
        predictions: 0 or 1, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> import torch
    >>> label_accuracy(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item()
    0.75
    """
    return mean_over_rows(wide(predictions == targets).mean(1), weights)


@method(
    row="K12",
    reference="sklearn.metrics.f1_score with average='micro'",
    formula="2 sum_l TP_l / sum_l (P_l + Y_l)",
)
def f1_micro(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """F1 of all labels together: the harmonic mean of precision and recall; NaN if no label holds or is predicted.

    Args:
        predictions: 0 or 1, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> import torch
    >>> f1_micro(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item()
    0.8
    """
    return rate_of_total(f1_of, predictions, targets, weights)
