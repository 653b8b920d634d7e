"""Metrics of several labels, each of which may hold or not: predictions and targets (n, L)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from descend.cards import method
from descend.metrics import probabilities as of_classes
from descend.metrics.base import row_weights, wide

__all__ = [
    "average_precision",
    "brier",
    "f1_macro",
    "f1_micro",
    "label_accuracy",
    "log_loss",
    "roc_auc",
    "subset_accuracy",
]


def _label_counts(
    predictions: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight of the rows of each label (L,) that hold and are predicted, hold, and are predicted."""
    p, y = wide(predictions), wide(targets)
    w = row_weights(weights, len(y), y).unsqueeze(1)
    return (w * p * y).sum(0), (w * y).sum(0), (w * p).sum(0)


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

    >>> subset_accuracy(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item()
    0.5
    """
    correct = wide((predictions == targets).all(1))
    w = row_weights(weights, len(correct), correct)
    return torch.dot(correct, w) / w.sum()


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

    >>> label_accuracy(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item()
    0.75
    """
    correct = wide(predictions == targets).mean(1)
    w = row_weights(weights, len(correct), correct)
    return torch.dot(correct, w) / w.sum()


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

    >>> f1_micro(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item()
    0.8
    """
    hits, held, predicted = _label_counts(predictions, targets, weights)
    return 2.0 * hits.sum() / (held.sum() + predicted.sum())


@method(
    row="K12",
    reference="sklearn.metrics.f1_score with average='macro'",
    formula="mean over labels of 2 TP_l / (P_l + Y_l)",
    note="Labels that neither hold nor are predicted in any row have no F1 and are left out.",
)
def f1_macro(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of the F1 of each label; NaN if no label holds or is predicted.

    Args:
        predictions: 0 or 1, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> round(f1_macro(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item(), 4)
    0.8333
    """
    hits, held, predicted = _label_counts(predictions, targets, weights)
    total = held + predicted
    defined = total > 0
    return (2.0 * hits / total.where(defined, 1.0)).sum() / defined.sum()


@method(
    row="K12",
    reference="sklearn.metrics.roc_auc_score, average='macro'",
    formula="mean over labels of the area under the ROC curve",
)
def roc_auc(probabilities: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over labels of the area under the ROC curve.

    Labels that hold in all rows or in none have no such area and are left out; NaN if there is no other.

    Args:
        probabilities: that each label holds, (n, L); only their order matters.
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> roc_auc(torch.tensor([[0.1, 0.9], [0.8, 0.7]]), torch.tensor([[0, 1], [1, 0]])).item()
    1.0
    """
    return _mean_over_labels(of_classes.roc_auc, probabilities, targets, weights)


@method(
    row="K12",
    reference="sklearn.metrics.average_precision_score, average='macro'",
    formula="mean over labels of the average precision",
)
def average_precision(probabilities: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over labels of the average precision.

    Labels that hold in no row have none and are left out; NaN if there is no other.

    Args:
        probabilities: that each label holds, (n, L); only their order matters.
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> average_precision(torch.tensor([[0.1, 0.9], [0.8, 0.7]]), torch.tensor([[0, 1], [1, 0]])).item()
    1.0
    """
    return _mean_over_labels(of_classes.average_precision, probabilities, targets, weights)


@method(
    row="K12",
    reference="sklearn.metrics.brier_score_loss of each label",
    formula="mean over rows and labels of (p - y)^2",
)
def brier(probabilities: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error of the probabilities, over rows and labels.

    Args:
        probabilities: that each label holds, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> brier(torch.tensor([[0.5, 1.0]]), torch.tensor([[0, 1]])).item()
    0.125
    """
    errors = (wide(probabilities) - targets).square().mean(1)
    w = row_weights(weights, len(errors), errors)
    return torch.dot(errors, w) / w.sum()


@method(
    row="K12",
    reference="sklearn.metrics.log_loss of each label",
    formula="mean over rows and labels of -log p(y)",
)
def log_loss(probabilities: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean negative logarithm of the predicted probability of what each label is, in nats.

    Args:
        probabilities: that each label holds, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> round(log_loss(torch.tensor([[0.5, 0.5]]), torch.tensor([[0, 1]])).item(), 4)
    0.6931
    """
    p = wide(probabilities)
    losses = -torch.where(targets > 0.5, p, 1.0 - p).clamp_min(torch.finfo(torch.float64).eps).log().mean(1)
    w = row_weights(weights, len(losses), losses)
    return torch.dot(losses, w) / w.sum()


def _mean_over_labels(
    metric: Callable[..., Tensor], probabilities: Tensor, targets: Tensor, weights: Tensor | None
) -> Tensor:
    each = [
        metric(probabilities[:, at].contiguous(), targets[:, at], weights) for at in range(targets.shape[1])
    ]
    return torch.stack(each).nanmean()
