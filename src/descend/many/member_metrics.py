"""Metrics of many members at once: those of :mod:`descend.metrics`, along a leading member dimension.

They are computed at each epoch, where a call of each metric for each member, or :func:`torch.vmap`, takes as long as
several steps. A metric without a form here is run by ``vmap``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.metrics import METRICS

__all__ = ["Scored", "metrics_of_members"]


@dataclass(frozen=True)
class Scored:
    """Predictions and targets of many members.

    Args:
        predictions: (K, n) class indices, or (K, n, T) values.
        targets: of the same shape.
        weights: (K, n), or None for equal ones.
        classes: the number of classes; 0 for values.
    """

    predictions: Tensor
    targets: Tensor
    weights: Tensor | None
    classes: int


def metrics_of_members(task: str, scored: Scored) -> dict[str, Tensor]:
    """Return the metrics of a task by name, float64 (K,); float32 on devices without float64.

    >>> right, half = torch.tensor([0, 1]), torch.tensor([0, 0])
    >>> metrics_of_members("binary", Scored(torch.stack([right, half]), right.expand(2, 2), None, 2))["accuracy"].tolist()
    [1.0, 0.5]
    """
    prepare, packed = (_class_weights, _OF_CLASSES) if scored.classes else (_residuals, _OF_VALUES)
    prepared = prepare(scored) if scored.predictions.dim() == 2 or not scored.classes else {}
    result = {}
    for name, metric in METRICS[task].items():
        own = packed.get(name)
        result[name] = _by_vmap(metric, scored) if own is None else own(prepared)
    return result


Prepared = Mapping[str, Tensor]


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.device.type == "mps" else values.double()


def _row_weights(scored: Scored) -> Tensor:
    """Return the row weights (K, n), or (1, n) if all are 1."""
    if scored.weights is None:
        rows = scored.targets.shape[1]
        return _wide(torch.ones(1, rows, device=scored.targets.device))
    return _wide(scored.weights)


def _class_weights(scored: Scored) -> Prepared:
    """Return the total weight of all rows and of the correctly predicted rows by class, (K, C) each."""
    targets, weights = scored.targets.long(), _row_weights(scored)
    weights = weights.expand(targets.shape)
    zeros = weights.new_zeros(len(targets), scored.classes)
    correct = weights * (scored.predictions == targets)
    return {
        "total": zeros.scatter_add(1, targets, weights),
        "correct": zeros.scatter_add(1, targets, correct),
    }


def _accuracy(p: Prepared) -> Tensor:
    return p["correct"].sum(1) / p["total"].sum(1)


def _balanced_accuracy(p: Prepared) -> Tensor:
    present = p["total"] > 0
    recall = p["correct"] / p["total"].where(present, 1.0)
    return recall.sum(1) / present.sum(1)


def _residuals(scored: Scored) -> Prepared:
    """Return residuals and targets (K, n, T), and weights that broadcast with them and sum to 1."""
    targets = _wide(scored.targets)
    weights = _row_weights(scored).unsqueeze(2)
    return {
        "residual": targets - _wide(scored.predictions),
        "targets": targets,
        "weights": weights / weights.sum(1, keepdim=True),
    }


def _r2(p: Prepared) -> Tensor:
    targets, weights = p["targets"], p["weights"]
    if targets.shape[1] < 2:
        return targets.new_full((len(targets),), torch.nan)
    residual = (weights * p["residual"].square()).sum(1)
    variance = (weights * (targets - (weights * targets).sum(1, keepdim=True)).square()).sum(1)
    varies = variance > 0
    ratio = residual / variance.where(varies, 1.0)
    return torch.where(varies, 1.0 - ratio, (residual == 0).to(ratio.dtype)).mean(1)


def _mae(p: Prepared) -> Tensor:
    return (p["weights"] * p["residual"].abs()).sum(1).mean(1)


def _rmse(p: Prepared) -> Tensor:
    return (p["weights"] * p["residual"].square()).sum(1).sqrt().mean(1)


_OF_CLASSES: dict[str, Callable[[Prepared], Tensor]] = {
    "accuracy": _accuracy,
    "balanced_accuracy": _balanced_accuracy,
}
_OF_VALUES: dict[str, Callable[[Prepared], Tensor]] = {"r2": _r2, "mae": _mae, "rmse": _rmse}


def _by_vmap(metric: Callable[..., Tensor], scored: Scored) -> Tensor:
    if scored.weights is None:
        return torch.vmap(lambda p, y: metric(p, y))(scored.predictions, scored.targets)
    return torch.vmap(metric)(scored.predictions, scored.targets, scored.weights)
