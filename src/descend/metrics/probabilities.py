"""Metrics of predicted probabilities: logarithmic and quadratic scores, and rankings by probability."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from descend.cards import method
from descend.metrics.base import mean_over_rows, row_weights, wide

__all__ = ["average_precision", "brier", "log_loss", "roc_auc", "top_k"]


def _of_true_class(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Return the probability of the class of each row (n,), or of what each label is (n, L)."""
    labels = targets.long()
    if probabilities.shape == targets.shape:
        return torch.where(labels == 1, probabilities, 1 - probabilities)
    return probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)


def _mean(each: Tensor, weights: Tensor | None) -> Tensor:
    """Return the mean of values of rows (n,), or of rows and labels (n, L)."""
    return mean_over_rows(each.mean(1) if each.dim() == 2 else each, weights)


@method(
    row="C2, C3",
    reference="sklearn.metrics.log_loss",
    formula="-sum_i w_i log p_i(y_i) / sum_i w_i, p clipped to at least 2.2e-16",
)
def log_loss(probabilities: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean negative logarithm of the predicted probability of the true class, in nats. Undefined without rows.

    For labels it is the mean over them.

    Args:
        probabilities: of the second class (n,), of each class (n, K), or that each label holds (n, L).
        targets: class indices (n,); for labels 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> round(log_loss(torch.tensor([0.5, 0.5]), torch.tensor([0, 1])).item(), 4)
    0.6931
    """
    p = _of_true_class(wide(probabilities), targets).clamp_min(torch.finfo(torch.float64).eps)
    return -_mean(p.log(), weights)


@method(
    row="C2, C3",
    reference="sklearn.metrics.brier_score_loss; Brier 1950",
    formula="binary: mean of (p - y)^2; multiclass: mean of sum_k (p_k - [y = k])^2",
)
def brier(probabilities: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Brier score, the mean squared error of the probabilities. Undefined without rows.

    For K classes it is the sum over classes, in [0, 2]; for a binary task, that of the second class, in [0, 1]; for labels,
    the mean over them.

    Args:
        probabilities: of the second class (n,), of each class (n, K), or that each label holds (n, L).
        targets: class indices (n,); for labels 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> brier(torch.tensor([0.5, 1.0]), torch.tensor([0, 1])).item()
    0.125
    """
    p = wide(probabilities)
    if p.shape == targets.shape:
        return _mean((p - targets).square(), weights)
    return _mean(p.square().sum(1) + 1 - 2 * _of_true_class(p, targets), weights)


def _by_class(p: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores (n, C) and which rows are of each class (n, C): one for a binary task, else all classes or labels."""
    labels = targets.long()
    if p.dim() == 1:
        return p.unsqueeze(1), (labels == 1).unsqueeze(1)
    if labels.dim() == 2:
        return p, labels == 1
    return p, labels.unsqueeze(1) == torch.arange(p.shape[1], device=p.device)


class _Ranking(NamedTuple):
    """Rows in ascending order of their scores, for each class, classes first.

    Args:
        positive: (C, n) the weight of the row if it is of the class, else 0.
        weights: (C, n) the weight of the row.
        first: (C, n) the place of the first row with the same score.
        last: (C, n) the place after the last one.
    """

    positive: Tensor
    weights: Tensor
    first: Tensor
    last: Tensor


def _ranked(probabilities: Tensor, targets: Tensor, weights: Tensor | None) -> _Ranking:
    p = wide(probabilities)
    scores, positive = _by_class(p, targets)
    w = row_weights(weights, len(p), p)
    ordered, order = torch.sort(scores.t().contiguous(), dim=1)
    weights = w[order]
    first, last = (torch.searchsorted(ordered, ordered, right=right) for right in (False, True))
    return _Ranking(weights * positive.t().gather(1, order), weights, first, last)


def _mean_over_classes(each: Tensor, targets: Tensor) -> Tensor:
    """Return the mean over classes, undefined if one is; or over the labels for which it is defined."""
    return each.nanmean() if targets.dim() == 2 else each.mean()


def _from_zero(each: Tensor) -> Tensor:
    """Return the sums (C, n + 1) over the places before each one."""
    return torch.cat([each.new_zeros(len(each), 1), each.cumsum(1)], 1)


@method(
    row="C3",
    reference="sklearn.metrics.roc_auc_score, multi_class='ovr', average='macro'; Hanley and McNeil 1982",
    formula="P(score of a row of the class > that of another row) + P(equal) / 2; multiclass: the mean over classes, each "
    "against all others",
)
def roc_auc(
    probabilities: Tensor, targets: Tensor, weights: Tensor | None = None, *, classes: int | None = None
) -> Tensor:
    """Area under the ROC curve: the probability that a row of the class is ranked above another row.

    For K classes it is the unweighted mean over classes of the area of each class against all others. Undefined if a
    class has no rows. For labels it is the mean over those that hold in some rows and not in others.

    Args:
        probabilities: of the second class (n,), of each class (n, K), or that each label holds (n, L); only their order
            matters.
        targets: class indices (n,); for labels 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.
        classes: ignored; the number of classes is that of the probabilities.

    >>> roc_auc(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item()
    0.75
    """
    r = _ranked(probabilities, targets, weights)
    negative = r.weights - r.positive
    below = _from_zero(negative)
    low, high = below.gather(1, r.first), below.gather(1, r.last)
    # Of equal scores, half count as lower.
    areas = (r.positive * (low + high)).sum(1) / (2 * r.positive.sum(1) * negative.sum(1))
    return _mean_over_classes(areas, targets)


@method(
    row="C3",
    reference="sklearn.metrics.average_precision_score",
    formula="sum_j (R_j - R_{j-1}) P_j over the distinct scores, precision P_j and recall R_j at that threshold; "
    "multiclass: the mean over classes, each against all others",
)
def average_precision(
    probabilities: Tensor, targets: Tensor, weights: Tensor | None = None, *, classes: int | None = None
) -> Tensor:
    """Average precision, the area under the precision-recall curve as a sum of steps. Undefined if a class has no rows.

    For a binary task it is that of the second class, and only that class needs rows; for K classes it is the unweighted
    mean over classes, each against all others. For labels it is the mean over those that hold in some row.

    Args:
        probabilities: of the second class (n,), of each class (n, K), or that each label holds (n, L); only their order
            matters.
        targets: class indices (n,); for labels 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.
        classes: ignored; the number of classes is that of the probabilities.

    >>> round(average_precision(torch.tensor([0.1, 0.4, 0.35, 0.8]), torch.tensor([0, 0, 1, 1])).item(), 4)
    0.8333
    """
    r = _ranked(probabilities, targets, weights)
    of_class, of_all = _from_zero(r.positive), _from_zero(r.weights)
    # The weights of the rows with at least this score.
    above = of_class[:, -1:] - of_class.gather(1, r.first)
    all_above = of_all[:, -1:] - of_all.gather(1, r.first)
    steps = torch.where(r.positive > 0, r.positive * above / all_above, torch.zeros_like(above))
    return _mean_over_classes(steps.sum(1) / r.positive.sum(1), targets)


@method(
    row="C3",
    reference="sklearn.metrics.top_k_accuracy_score",
    formula="sum_i w_i [fewer than k classes have a higher probability than y_i] / sum_i w_i",
    note="Of classes with equal probabilities, the later ones are ranked higher, as in scikit-learn.",
)
def top_k(probabilities: Tensor, targets: Tensor, weights: Tensor | None = None, *, k: int = 5) -> Tensor:
    """Fraction of rows whose class is among the k most probable ones. Undefined without rows.

    Args:
        probabilities: of each class (n, K); only their order matters.
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.
        k: the number of classes. Default 5.

    >>> top_k(torch.tensor([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]]), torch.tensor([1, 2]), k=2).item()
    0.5
    """
    p, labels = wide(probabilities), targets.long().unsqueeze(1)
    own = p.gather(1, labels)
    later = torch.arange(p.shape[1], device=p.device).unsqueeze(0) > labels
    rank = ((p > own) | ((p == own) & later)).sum(1)
    return mean_over_rows(wide(rank < k), weights)
