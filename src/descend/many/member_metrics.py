"""Metrics of many members at once: those of :mod:`descend.metrics`, along a leading member dimension.

They are computed at each epoch, where a call of each metric for each member, or :func:`torch.vmap`, takes as long as
several steps. A metric without a form here is run by ``vmap``, and one of the user's own for each member.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.metrics import Form, Metric
from descend.metrics.base import wide

__all__ = ["Scored", "metrics_of_members"]


@dataclass(frozen=True)
class Scored:
    """Predictions and targets of many members.

    Args:
        predict: returns the predictions of a form: (K, n) class indices, (K, n) or (K, n, C) probabilities, or (K, n, T)
            values in the units of the targets.
        targets: (K, n) class indices, or (K, n, T) values.
        weights: (K, n), or None for equal ones.
        classes: the number of classes; 0 for values.
    """

    predict: Callable[[Form], Tensor]
    targets: Tensor
    weights: Tensor | None
    classes: int


def metrics_of_members(metrics: Iterable[Metric], scored: Scored) -> dict[str, Tensor]:
    """Return metrics by name, float64 (K,); float32 on devices without float64. They are NaN where undefined.

    >>> right, half = torch.tensor([0, 1]), torch.tensor([0, 0])
    >>> scored = Scored(lambda form: torch.stack([right, half]), right.expand(2, 2), None, 2)
    >>> from descend.metrics import find_metric
    >>> metrics_of_members([find_metric("accuracy")], scored)["accuracy"].tolist()
    [1.0, 0.5]
    """
    prepare, packed = (_class_weights, _OF_CLASSES) if scored.classes else (_residuals, _OF_VALUES)
    prepared: Prepared | None = None
    predictions: dict[Form, Tensor] = {}
    result = {}
    for metric in metrics:
        if metric.takes not in predictions:
            predictions[metric.takes] = scored.predict(metric.takes)
        own = packed.get(metric.name)
        if own is None:
            result[metric.name] = _each(metric, predictions[metric.takes], scored)
        else:
            prepared = prepare(scored, predictions[metric.takes]) if prepared is None else prepared
            result[metric.name] = own(prepared)
    return result


Prepared = Mapping[str, Tensor]


def _row_weights(scored: Scored) -> Tensor:
    """Return the row weights (K, n), or (1, n) if all are 1."""
    if scored.weights is None:
        rows = scored.targets.shape[1]
        return wide(torch.ones(1, rows, device=scored.targets.device))
    return wide(scored.weights)


def _class_weights(scored: Scored, predictions: Tensor) -> Prepared:
    """Return the total weight of all rows and of the correctly predicted rows by class, (K, C) each."""
    targets, weights = scored.targets.long(), _row_weights(scored)
    weights = weights.expand(targets.shape)
    zeros = weights.new_zeros(len(targets), scored.classes)
    correct = weights * (predictions == targets)
    return {
        "total": zeros.scatter_add(1, targets, weights),
        "correct": zeros.scatter_add(1, targets, correct),
    }


def _accuracy(p: Prepared) -> Tensor:
    return p["correct"].sum(1) / p["total"].sum(1)


def _balanced_accuracy(p: Prepared) -> Tensor:
    present = p["total"] > 0
    recall = p["correct"] / p["total"].where(present, 1.0)
    return torch.where(present.all(1), recall.sum(1) / present.sum(1), torch.nan)


def _residuals(scored: Scored, predictions: Tensor) -> Prepared:
    """Return residuals and targets (K, n, T), weights that broadcast with them and sum to 1, and which targets vary."""
    targets = wide(scored.targets)
    weights = _row_weights(scored).unsqueeze(2)
    counted = weights > 0
    low = targets.where(counted, torch.inf).amin(1)
    high = targets.where(counted, -torch.inf).amax(1)
    return {
        "residual": targets - wide(predictions),
        "targets": targets,
        "weights": weights / weights.sum(1, keepdim=True),
        "varies": low < high,
    }


def _r2(p: Prepared) -> Tensor:
    targets, weights, varies = p["targets"], p["weights"], p["varies"]
    residual = (weights * p["residual"].square()).sum(1)
    variance = (weights * (targets - (weights * targets).sum(1, keepdim=True)).square()).sum(1)
    explained = torch.where(varies, 1.0 - residual / variance, torch.zeros_like(variance))
    return explained.sum(1) / varies.sum(1)


def _mae(p: Prepared) -> Tensor:
    return (p["weights"] * p["residual"].abs()).sum(1).mean(1)


def _rmse(p: Prepared) -> Tensor:
    return (p["weights"] * p["residual"].square()).sum(1).sqrt().mean(1)


_OF_CLASSES: dict[str, Callable[[Prepared], Tensor]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
}
_OF_VALUES: dict[str, Callable[[Prepared], Tensor]] = {"r2": _r2, "mae": _mae, "rmse": _rmse}


def _each(metric: Metric, predictions: Tensor, scored: Scored) -> Tensor:
    """Return a metric that has no form for many members here: by ``vmap``, or one member after another."""

    def of_one(p: Tensor, y: Tensor, w: Tensor | None = None) -> Tensor:
        return metric(p, y, w, scored.classes)

    rows = [predictions, scored.targets, *([] if scored.weights is None else [scored.weights])]
    if metric.own is None:
        values: Tensor = torch.vmap(of_one)(*rows)
        return values
    return torch.stack([of_one(*one) for one in zip(*rows, strict=True)])
