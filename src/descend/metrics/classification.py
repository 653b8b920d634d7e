"""Metrics of predicted classes."""

from __future__ import annotations

import torch
from torch import Tensor

from descend.cards import method
from descend.metrics.base import mean_over_rows, predicted_classes, wide
from descend.metrics.counts import counts_of, f1_of, mean_of_rates, of_second_class, precision_of, recall_of

__all__ = [
    "accuracy",
    "balanced_accuracy",
    "f1",
    "f1_macro",
    "matthews",
    "precision",
    "precision_macro",
    "recall",
    "recall_macro",
]


@method(
    row="C3",
    reference="sklearn.metrics.accuracy_score",
    formula="sum_i w_i [p_i = y_i] / sum_i w_i",
)
def accuracy(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Fraction of rows with the correct class. Undefined without rows.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1).
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.

    >>> accuracy(torch.tensor([1, 0, 1, 1]), torch.tensor([1, 0, 0, 1])).item()
    0.75
    """
    return mean_over_rows(wide(predicted_classes(predictions) == targets.long()), weights)


@method(
    row="C3",
    reference="sklearn.metrics.balanced_accuracy_score",
    formula="mean over classes c of sum_{i: y_i = c} w_i [p_i = c] / sum_{i: y_i = c} w_i",
    note="With `classes`, the number of classes, it is undefined, NaN, if one of them has no rows.",
)
def balanced_accuracy(
    predictions: Tensor, targets: Tensor, weights: Tensor | None = None, *, classes: int | None = None
) -> Tensor:
    """Mean recall over classes.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1).
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.
        classes: the number of classes: the metric is undefined, NaN, if one of them has no rows (or only rows of weight
            0), since its recall is undefined. Default None: the mean over the classes that occur in the targets.

    >>> balanced_accuracy(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1])).item()
    0.5
    >>> balanced_accuracy(torch.tensor([0, 0]), torch.tensor([0, 0]), classes=2).item()
    nan
    """
    return mean_of_rates(recall_of, predictions, targets, weights, classes)


@method(
    row="C3",
    reference="sklearn.metrics.precision_score",
    formula="TP / (TP + FP), weights summed over the rows predicted as the second class",
)
def precision(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Fraction of correct rows among those predicted as the second class. Undefined if none is predicted as it.

    Args:
        predictions: class indices 0 and 1 (n,), or logits (n, 1).
        targets: class indices 0 and 1 (n,).
        weights: (n,), one weight per row. Default None: all equal.

    >>> precision(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 1])).item()
    0.5
    """
    return of_second_class(precision_of, predictions, targets, weights)


@method(
    row="C3",
    reference="sklearn.metrics.recall_score",
    formula="TP / (TP + FN), weights summed over the rows of the second class",
)
def recall(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Fraction of the rows of the second class that are predicted as it. Undefined without a row of that class.

    Args:
        predictions: class indices 0 and 1 (n,), or logits (n, 1).
        targets: class indices 0 and 1 (n,).
        weights: (n,), one weight per row. Default None: all equal.

    >>> recall(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 1])).item()
    0.5
    """
    return of_second_class(recall_of, predictions, targets, weights)


@method(
    row="C3",
    reference="sklearn.metrics.f1_score",
    formula="2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall",
)
def f1(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """F1 score of the second class. Undefined without a row of that class, where no prediction could raise it above 0.

    Args:
        predictions: class indices 0 and 1 (n,), or logits (n, 1).
        targets: class indices 0 and 1 (n,).
        weights: (n,), one weight per row. Default None: all equal.

    >>> f1(torch.tensor([1, 1, 0]), torch.tensor([1, 0, 1])).item()
    0.5
    """
    counts = counts_of(predictions, targets, weights, 2)
    return torch.where(counts.actual[1] > 0, f1_of(counts)[1], torch.nan)


@method(
    row="C3",
    reference="sklearn.metrics.precision_score with average='macro'",
    formula="mean over classes of precision",
)
def precision_macro(
    predictions: Tensor, targets: Tensor, weights: Tensor | None = None, *, classes: int | None = None
) -> Tensor:
    """Mean precision over classes. Undefined if a class has no rows, or is never predicted.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1).
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.
        classes: the number of classes. Default None: the mean over the classes that occur in the targets.

    >>> precision_macro(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])).item()
    0.75
    """
    return mean_of_rates(precision_of, predictions, targets, weights, classes)


@method(
    row="C3",
    reference="sklearn.metrics.recall_score with average='macro'",
    formula="mean over classes of recall",
)
def recall_macro(
    predictions: Tensor, targets: Tensor, weights: Tensor | None = None, *, classes: int | None = None
) -> Tensor:
    """Mean recall over classes, another name of the balanced accuracy. Undefined if a class has no rows.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1).
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.
        classes: the number of classes. Default None: the mean over the classes that occur in the targets.

    >>> recall_macro(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])).item()
    0.75
    """
    return mean_of_rates(recall_of, predictions, targets, weights, classes)


@method(
    row="C3",
    reference="sklearn.metrics.f1_score with average='macro'",
    formula="mean over classes of the F1 score",
)
def f1_macro(
    predictions: Tensor, targets: Tensor, weights: Tensor | None = None, *, classes: int | None = None
) -> Tensor:
    """Mean F1 score over classes, or over labels. Undefined if a class has no rows, or no label holds or is predicted.

    Labels that neither hold nor are predicted in any row have no F1 score and are left out.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1); for labels 0 or 1, (n, L).
        targets: class indices (n,); for labels 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.
        classes: the number of classes, ignored for labels. Default None: the mean over the classes that occur in the
            targets.

    >>> round(f1_macro(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])).item(), 4)
    0.6667
    """
    return mean_of_rates(f1_of, predictions, targets, weights, classes)


@method(
    row="C3",
    reference="sklearn.metrics.matthews_corrcoef; Gorodkin 2004",
    formula="(c s - sum_k p_k t_k) / sqrt((s^2 - sum_k p_k^2) (s^2 - sum_k t_k^2)), c the weight of correct rows, s that "
    "of all rows, t_k that of class k and p_k that predicted as class k",
)
def matthews(
    predictions: Tensor, targets: Tensor, weights: Tensor | None = None, *, classes: int | None = None
) -> Tensor:
    """Matthews correlation coefficient of predicted and true classes, in [-1, 1].

    Undefined if all rows are of one class, or all are predicted as one.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1).
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.
        classes: the number of classes. Default None: those that occur.

    >>> round(matthews(torch.tensor([0, 1, 1]), torch.tensor([0, 1, 0])).item(), 4)
    0.5
    """
    counts = counts_of(predictions, targets, weights, classes)
    total = counts.actual.sum()
    several = ((counts.actual > 0).sum() > 1) & ((counts.predicted > 0).sum() > 1)
    numerator = counts.correct.sum() * total - torch.dot(counts.predicted, counts.actual)
    of_predicted = total.square() - counts.predicted.square().sum()
    of_actual = total.square() - counts.actual.square().sum()
    return torch.where(several, numerator / (of_predicted * of_actual).sqrt(), torch.nan)
