"""Metrics of predicted numbers, in the units of the targets; for several targets, the mean over the targets."""

from __future__ import annotations

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError
from descend.metrics.base import row_weights, wide

__all__ = ["explained_variance", "mae", "mape", "median_ae", "mse", "pinball", "r2", "rmse"]


def _columns(predictions: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return predictions and targets (n, T) and weights (n, 1)."""
    p, y = (v.unsqueeze(1) if v.dim() == 1 else v for v in (predictions, targets))
    if p.shape != y.shape:
        raise UserError(
            f"predictions have shape {tuple(predictions.shape)} and targets {tuple(targets.shape)}; "
            "they must be equal"
        )
    return wide(p), wide(y), row_weights(weights, len(y), y).unsqueeze(1)


def _mean(values: Tensor, w: Tensor) -> Tensor:
    """Return the weighted mean over rows (T,) of values (n, T)."""
    return (w * values).sum(0) / w.sum()


def _varies(y: Tensor, w: Tensor) -> Tensor:
    """Return for each target (T,) whether its values differ among the rows with a weight (n, 1) above 0."""
    if len(y) == 0:
        return torch.zeros(y.shape[1], dtype=torch.bool, device=y.device)
    low, high = y.where(w > 0, torch.inf).amin(0), y.where(w > 0, -torch.inf).amax(0)
    return low < high


def _variation(values: Tensor, w: Tensor) -> Tensor:
    """Return the weighted sum of squared deviations from the mean (T,)."""
    return (w * (values - _mean(values, w)).square()).sum(0)


def _explained(rest: Tensor, y: Tensor, w: Tensor) -> Tensor:
    """Return the mean of 1 - rest / variation over the targets that vary, NaN if none does."""
    varies = _varies(y, w)
    explained = 1.0 - rest / _variation(y, w)
    return torch.where(varies, explained, torch.zeros_like(explained)).sum() / varies.sum()


@method(
    row="C1",
    reference="sklearn.metrics.r2_score",
    formula="1 - sum_i w_i (y_i - p_i)^2 / sum_i w_i (y_i - mean y)^2, mean over targets",
    note="For a constant target, one row included, it is undefined: NaN here, 0 or 1 in scikit-learn. With several "
    "targets the mean is over those that vary.",
)
def r2(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Coefficient of determination: the explained fraction of the variance of the targets.

    Undefined if the targets are constant: there is no variance to explain.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.

    >>> r2(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 2.0, 3.0])).item()
    1.0
    """
    p, y, w = _columns(predictions, targets, weights)
    return _explained((w * (y - p).square()).sum(0), y, w)


@method(
    row="C1",
    reference="sklearn.metrics.explained_variance_score",
    formula="1 - var(y - p) / var(y), weighted, mean over targets",
    note="Unlike R^2, it does not see a constant error. For a constant target it is undefined, as R^2 is.",
)
def explained_variance(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Explained fraction of the variance of the targets, up to a constant error. Undefined if the targets are constant.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.

    >>> explained_variance(torch.tensor([2.0, 3.0, 4.0]), torch.tensor([1.0, 2.0, 3.0])).item()
    1.0
    """
    p, y, w = _columns(predictions, targets, weights)
    return _explained(_variation(y - p, w), y, w)


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
    p, y, w = _columns(predictions, targets, weights)
    return _mean((y - p).abs(), w).mean()


@method(
    row="C1",
    reference="sklearn.metrics.mean_squared_error",
    formula="sum_i w_i (y_i - p_i)^2 / sum_i w_i, mean over targets",
)
def mse(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean squared error, in the squared units of the targets.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.

    >>> mse(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0])).item()
    5.0
    """
    p, y, w = _columns(predictions, targets, weights)
    return _mean((y - p).square(), w).mean()


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
    p, y, w = _columns(predictions, targets, weights)
    return _mean((y - p).square(), w).sqrt().mean()


@method(
    row="C1",
    reference="sklearn.metrics.mean_absolute_percentage_error",
    formula="sum_i w_i |y_i - p_i| / |y_i| / sum_i w_i, mean over targets",
    note="It is a fraction: 0.1 is 10 %. With a target of 0 it is undefined: NaN here, a huge number in scikit-learn.",
)
def mape(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean absolute error relative to the targets, as a fraction. Undefined if a target is 0.

    A target below a millionth of the largest one counts as 0: targets that were standardized in float32 for training and
    converted back differ from 0 by their rounding errors.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row; rows of weight 0 do not count. Default None: all equal.

    >>> mape(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 4.0])).item()
    0.375
    """
    p, y, w = _columns(predictions, targets, weights)
    counts = (w > 0).expand_as(y)
    relative = torch.where(counts, (y - p).abs() / y.abs(), torch.zeros_like(y))
    mean = _mean(relative, w).mean()
    if len(y) == 0:
        return mean
    sizes = torch.where(counts, y.abs(), torch.zeros_like(y))
    zero = counts & (sizes <= 1e-6 * sizes.amax(0))
    return torch.where(zero.any(), torch.nan, mean)


@method(
    row="C1",
    reference="sklearn.metrics.median_absolute_error",
    formula="the weighted median of |y_i - p_i|, mean over targets",
    note="The median is the mean of the least error below or at which half of the weight lies, and of the least error at "
    "or below which more than half lies.",
)
def median_ae(predictions: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Median absolute error, in the units of the targets. Undefined without rows.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.

    >>> median_ae(torch.tensor([1.0, 2.0, 9.0, 4.0]), torch.zeros(4)).item()
    3.0
    """
    p, y, w = _columns(predictions, targets, weights)
    if len(y) == 0:
        return y.new_full((), torch.nan)
    errors, order = torch.sort((y - p).abs(), dim=0)
    cumulative = w.expand_as(y).gather(0, order).cumsum(0)
    half = cumulative[-1] / 2
    lower, upper = (cumulative < half).sum(0), (cumulative <= half).sum(0)
    ends = torch.stack([lower, upper.clamp_max(len(y) - 1)])
    median = errors.gather(0, ends).mean(0)
    return torch.where(half > 0, median, torch.nan).mean()


@method(
    row="K12",
    reference="sklearn.metrics.mean_pinball_loss; Koenker and Bassett 1978",
    formula="sum_i w_i max(q (y_i - p_i), (q - 1) (y_i - p_i)) / sum_i w_i, mean over targets",
)
def pinball(
    predictions: Tensor, targets: Tensor, weights: Tensor | None = None, *, quantile: float = 0.5
) -> Tensor:
    """Mean pinball loss of predictions of a quantile, in the units of the targets; half the mean absolute error for 0.5.

    Args:
        predictions: (n,) or (n, T).
        targets: the same shape.
        weights: (n,), one weight per row. Default None: all equal.
        quantile: q, between 0 and 1. Default 0.5, the median.

    >>> round(pinball(torch.tensor([1.0, 5.0]), torch.tensor([2.0, 4.0]), quantile=0.9).item(), 4)
    0.5
    """
    p, y, w = _columns(predictions, targets, weights)
    error = y - p
    losses = torch.maximum(quantile * error, (quantile - 1) * error)
    return _mean(losses, w).mean()
