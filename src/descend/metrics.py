"""Metrics for evaluation: pure tensor functions that do not synchronise with the device.

Each is called as ``metric(predictions, targets, weights=None)`` and returns a scalar tensor on the device of the
predictions, float64 (float32 on devices without it). The definitions equal those of scikit-learn.

Classification metrics take class indices (n,), or raw outputs: scores (n, K), the largest of which is the class, or
logits (n, 1), positive for class 1. Regression metrics take (n,) or (n, T), and average uniformly over the targets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError, did_you_mean

__all__ = [
    "METRICS",
    "accuracy",
    "balanced_accuracy",
    "better",
    "mae",
    "main_metric",
    "predicted_classes",
    "r2",
    "rmse",
]

Metric = Callable[..., Tensor]


def predicted_classes(outputs: Tensor) -> Tensor:
    """Return class indices (n,) for raw outputs; class indices are returned unchanged.

    Args:
        outputs: scores (n, K), logits (n, 1), or int64 or boolean class indices (n,).

    >>> predicted_classes(torch.tensor([[0.1, 2.0, -1.0], [3.0, 0.0, 0.0]]))
    tensor([1, 0])
    >>> predicted_classes(torch.tensor([[-0.5], [0.5]]))
    tensor([0, 1])
    """
    if not outputs.is_floating_point():
        return outputs.long()
    if outputs.dim() == 2 and outputs.shape[1] > 1:
        return outputs.argmax(1)
    return (outputs.flatten() > 0).long()


def _wide(values: Tensor) -> Tensor:
    """Convert to float64 if the device supports it, so that sums over many rows keep their precision."""
    return values.float() if values.device.type == "mps" else values.double()


def _row_weights(weights: Tensor | None, rows: int, like: Tensor) -> Tensor:
    if weights is None:
        return _wide(torch.ones(rows, device=like.device))
    if weights.shape != (rows,):
        raise UserError(f"expected weights of shape ({rows},), one per row, got {tuple(weights.shape)}")
    return _wide(weights)


@method(
    row="C3",
    reference="sklearn.metrics.accuracy_score",
    formula="sum_i w_i [p_i = y_i] / sum_i w_i",
)
def accuracy(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Fraction of rows with the correct class.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1).
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.

    >>> accuracy(torch.tensor([1, 0, 1, 1]), torch.tensor([1, 0, 0, 1])).item()
    0.75
    """
    correct = _wide(predicted_classes(predictions) == targets.long())
    w = _row_weights(weights, len(correct), correct)
    return torch.dot(correct, w) / w.sum()


@method(
    row="C3",
    reference="sklearn.metrics.balanced_accuracy_score",
    formula="mean over classes c of sum_{i: y_i = c} w_i [p_i = c] / sum_{i: y_i = c} w_i",
)
def balanced_accuracy(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean recall over the classes that occur in the targets.

    Rows are sorted by class and summed by group, so the number of classes is not needed and the device is not
    synchronised.

    Args:
        predictions: class indices (n,), scores (n, K) or logits (n, 1).
        targets: class indices (n,).
        weights: (n,), one weight per row. Default None: all equal.

    >>> balanced_accuracy(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1])).item()
    0.5
    """
    labels, order = torch.sort(targets.long())
    correct = _wide(predicted_classes(predictions)[order] == labels)
    w = _row_weights(weights, len(labels), correct)[order]
    first = torch.ones_like(labels)
    first[1:] = labels[1:] != labels[:-1]
    group = first.cumsum(0) - 1
    total = torch.zeros_like(w).scatter_add_(0, group, w)
    hits = torch.zeros_like(w).scatter_add_(0, group, w * correct)
    present = total > 0
    recall = torch.where(
        present, hits / total.where(present, torch.ones_like(total)), torch.zeros_like(total)
    )
    return recall.sum() / present.sum()


def _columns(predictions: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    p, y = (v.unsqueeze(1) if v.dim() == 1 else v for v in (predictions, targets))
    if p.shape != y.shape:
        raise UserError(
            f"predictions have shape {tuple(predictions.shape)} and targets {tuple(targets.shape)}; "
            "they must be equal"
        )
    return _wide(p), _wide(y)


@method(
    row="C1",
    reference="sklearn.metrics.r2_score",
    formula="1 - sum_i w_i (y_i - p_i)^2 / sum_i w_i (y_i - mean y)^2, mean over targets",
    note="For a constant target it is 1 if the predictions are exact and 0 otherwise, and for fewer than two rows it is "
    "undefined, NaN, as in scikit-learn.",
)
def r2(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Coefficient of determination: the explained fraction of the variance of the targets.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.

    >>> r2(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])).item()
    1.0
    """
    p, y = _columns(predictions, targets)
    w = _row_weights(weights, len(y), y).unsqueeze(1)
    if len(y) < 2:  # one row has no variance to explain
        return y.new_full((), torch.nan)
    residual = (w * (y - p).square()).sum(0)
    total = (w * (y - (w * y).sum(0) / w.sum()).square()).sum(0)
    varies = total > 0
    ratio = residual / total.where(varies, torch.ones_like(total))
    return torch.where(varies, 1.0 - ratio, (residual == 0).to(ratio.dtype)).mean()


@method(
    row="C1", reference="sklearn.metrics.mean_absolute_error", formula="sum_i w_i |y_i - p_i| / sum_i w_i"
)
def mae(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute error, in the units of the targets.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.

    >>> mae(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0])).item()
    2.0
    """
    p, y = _columns(predictions, targets)
    w = _row_weights(weights, len(y), y).unsqueeze(1)
    return ((w * (y - p).abs()).sum(0) / w.sum()).mean()


@method(
    row="C1",
    reference="sklearn.metrics.root_mean_squared_error",
    formula="sqrt(sum_i w_i (y_i - p_i)^2 / sum_i w_i), mean over targets",
)
def rmse(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Root mean squared error, in the units of the targets; for several targets, the mean of their root mean squared errors.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.

    >>> rmse(torch.tensor([3.0, 3.0]), torch.tensor([0.0, 0.0])).item()
    3.0
    """
    p, y = _columns(predictions, targets)
    w = _row_weights(weights, len(y), y).unsqueeze(1)
    return ((w * (y - p).square()).sum(0) / w.sum()).sqrt().mean()


def _label_counts(
    predictions: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the weight of the rows of each label (L,) that hold and are predicted, hold, and are predicted."""
    p, y = _wide(predictions), _wide(targets)
    w = _row_weights(weights, len(y), y).unsqueeze(1)
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
    correct = _wide((predictions == targets).all(1))
    w = _row_weights(weights, len(correct), correct)
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
    correct = _wide(predictions == targets).mean(1)
    w = _row_weights(weights, len(correct), correct)
    return torch.dot(correct, w) / w.sum()


@method(
    row="K12",
    reference="sklearn.metrics.f1_score with average='micro'",
    formula="2 sum_l TP_l / sum_l (P_l + Y_l)",
)
def labels_f1_micro(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """F1 of all labels together: the harmonic mean of precision and recall; NaN if no label holds or is predicted.

    Args:
        predictions: 0 or 1, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> labels_f1_micro(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item()
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
def labels_f1_macro(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of the F1 of each label; NaN if no label holds or is predicted.

    Args:
        predictions: 0 or 1, (n, L).
        targets: 0 or 1, (n, L).
        weights: (n,), one weight per row. Default None: all equal.

    >>> round(labels_f1_macro(torch.tensor([[1, 0], [1, 1]]), torch.tensor([[1, 0], [0, 1]])).item(), 4)
    0.8333
    """
    hits, held, predicted = _label_counts(predictions, targets, weights)
    total = held + predicted
    defined = total > 0
    return (2.0 * hits / total.where(defined, 1.0)).sum() / defined.sum()


_CLASSIFICATION: dict[str, Metric] = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
_REGRESSION: dict[str, Metric] = {"r2": r2, "mae": mae, "rmse": rmse}

_LABELS: dict[str, Metric] = {
    "f1_micro": labels_f1_micro,
    "f1_macro": labels_f1_macro,
    "label_accuracy": label_accuracy,
    "subset_accuracy": subset_accuracy,
}

METRICS: dict[str, dict[str, Metric]] = {
    "regression": _REGRESSION,
    "multi_regression": _REGRESSION,
    "binary": _CLASSIFICATION,
    "multiclass": _CLASSIFICATION,
    "multi_label": _LABELS,
}
"""Metrics of each task, the main one first."""


def main_metric(task: str) -> str:
    """Return the main metric of a task.

    Raises:
        UserError: the task is unknown.

    >>> main_metric("binary"), main_metric("regression")
    ('accuracy', 'r2')
    """
    if task not in METRICS:
        raise UserError(f"unknown task '{task}'; {did_you_mean(task, METRICS)}")
    return next(iter(METRICS[task]))


def better(metric: str) -> Literal["higher", "lower"]:
    """Return whether higher or lower values of a metric, or of the ``loss``, are better.

    Raises:
        UserError: the metric is unknown.

    >>> better("accuracy"), better("loss")
    ('higher', 'lower')
    """
    known: dict[str, Literal["higher", "lower"]] = {
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "f1_micro": "higher",
        "f1_macro": "higher",
        "label_accuracy": "higher",
        "subset_accuracy": "higher",
        "r2": "higher",
        "mae": "lower",
        "rmse": "lower",
        "loss": "lower",
    }
    if metric not in known:
        raise UserError(f"unknown metric '{metric}'; {did_you_mean(metric, known)}")
    return known[metric]
