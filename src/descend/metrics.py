"""Metrics: what people read. Pure tensor functions that never wait for the device.

Each is called as ``metric(predictions, targets, weights=None)`` and gives a float64 (float32 on devices
without it) tensor of no dimensions on the predictions' device. The definitions are scikit-learn's.

Classification takes class numbers (n,), or raw outputs: (n, K) scores, whose largest is the class, or (n, 1)
logits, positive for class 1. Regression takes (n,) or (n, T), averaged evenly over the targets.
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
    """Class numbers (n,) from raw outputs; class numbers pass unchanged.

    Args:
        outputs: scores (n, K), logits (n, 1), or int64 or boolean class numbers (n,).

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
    """Float64 where the device has it, so that sums over many rows keep their digits."""
    return values.float() if values.device.type == "mps" else values.double()


def _row_weights(weights: Tensor | None, rows: int, like: Tensor) -> Tensor:
    if weights is None:
        return _wide(torch.ones(rows, device=like.device))
    if weights.shape != (rows,):
        raise UserError(f"weights have shape {tuple(weights.shape)}; expected ({rows},), one a row")
    return _wide(weights)


@method(
    row="C3",
    reference="sklearn.metrics.accuracy_score",
    formula="sum_i w_i [p_i = y_i] / sum_i w_i",
)
def accuracy(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Share of rows whose class is right.

    Args:
        predictions: see the head of this module.
        targets: class numbers (n,).
        weights: (n,), one weight a row. Default None: all equal.

    >>> accuracy(torch.tensor([1, 0, 1, 1]), torch.tensor([1, 0, 0, 1])).item()
    0.75
    """
    right = _wide(predicted_classes(predictions) == targets.long())
    w = _row_weights(weights, len(right), right)
    return torch.dot(right, w) / w.sum()


@method(
    row="C3",
    reference="sklearn.metrics.balanced_accuracy_score",
    formula="mean over classes c of sum_{i: y_i = c} w_i [p_i = c] / sum_{i: y_i = c} w_i",
)
def balanced_accuracy(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean of the classes' recalls, over the classes that occur in the targets.

    Rows are sorted by class and summed by group, which needs no number of classes and so no waiting.

    Args:
        predictions: see the head of this module.
        targets: class numbers (n,).
        weights: (n,), one weight a row. Default None: all equal.

    >>> balanced_accuracy(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1])).item()
    0.5
    """
    labels, order = torch.sort(targets.long())
    right = _wide(predicted_classes(predictions)[order] == labels)
    w = _row_weights(weights, len(labels), right)[order]
    first = torch.ones_like(labels)
    first[1:] = labels[1:] != labels[:-1]
    group = first.cumsum(0) - 1
    total = torch.zeros_like(w).scatter_add_(0, group, w)
    hits = torch.zeros_like(w).scatter_add_(0, group, w * right)
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
    note="A constant target gives 1 where it is met exactly and 0 otherwise, as in scikit-learn.",
)
def r2(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Coefficient of determination: the share of the targets' variance that is explained.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight a row. Default None: all equal.

    >>> r2(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])).item()
    1.0
    """
    p, y = _columns(predictions, targets)
    w = _row_weights(weights, len(y), y).unsqueeze(1)
    residual = (w * (y - p).square()).sum(0)
    spread = (w * (y - (w * y).sum(0) / w.sum()).square()).sum(0)
    varies = spread > 0
    ratio = residual / spread.where(varies, torch.ones_like(spread))
    return torch.where(varies, 1.0 - ratio, (residual == 0).to(ratio.dtype)).mean()


@method(
    row="C1", reference="sklearn.metrics.mean_absolute_error", formula="sum_i w_i |y_i - p_i| / sum_i w_i"
)
def mae(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute error, in the targets' units.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight a row. Default None: all equal.

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
    """Root mean squared error, in the targets' units; of several targets, the mean of their roots.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight a row. Default None: all equal.

    >>> rmse(torch.tensor([3.0, 3.0]), torch.tensor([0.0, 0.0])).item()
    3.0
    """
    p, y = _columns(predictions, targets)
    w = _row_weights(weights, len(y), y).unsqueeze(1)
    return ((w * (y - p).square()).sum(0) / w.sum()).sqrt().mean()


_CLASSIFICATION: dict[str, Metric] = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy}
_REGRESSION: dict[str, Metric] = {"r2": r2, "mae": mae, "rmse": rmse}

METRICS: dict[str, dict[str, Metric]] = {
    "regression": _REGRESSION,
    "multi_regression": _REGRESSION,
    "binary": _CLASSIFICATION,
    "multiclass": _CLASSIFICATION,
}
"""The metrics of each task, the main one first."""


def main_metric(task: str) -> str:
    """The metric that a task is judged by.

    Raises:
        UserError: no such task.

    >>> main_metric("binary"), main_metric("regression")
    ('accuracy', 'r2')
    """
    if task not in METRICS:
        raise UserError(f"unknown task '{task}'; {did_you_mean(task, METRICS)}")
    return next(iter(METRICS[task]))


def better(metric: str) -> Literal["higher", "lower"]:
    """Whether higher or lower values of a metric, or of the ``loss``, are better.

    Raises:
        UserError: no such metric.

    >>> better("accuracy"), better("loss")
    ('higher', 'lower')
    """
    known: dict[str, Literal["higher", "lower"]] = {
        "accuracy": "higher",
        "balanced_accuracy": "higher",
        "r2": "higher",
        "mae": "lower",
        "rmse": "lower",
        "loss": "lower",
    }
    if metric not in known:
        raise UserError(f"unknown metric '{metric}'; {did_you_mean(metric, known)}")
    return known[metric]
