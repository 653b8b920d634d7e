"""Quantiles of columns: a robust scale, and the map of numbers to normal ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from descend.cards import method
from descend.data.source import Array
from descend.param_types import Count, Positive

__all__ = ["QUANTILES", "ROBUST_CLIP", "NormalMap", "normal_quantile", "quantile", "quantiles_of", "robust"]

ROBUST_CLIP = 3.0
"""The smooth bound of the scale ``robust``."""

QUANTILES = 1000
"""The largest number of quantiles that the scale ``quantile`` stores for a column."""

_END = 1e-7  # the least share that a number is mapped to, as in scikit-learn


def quantiles_of(rows: Array, shares: Array, weights: Array | None = None) -> Array:
    """Return quantiles (q, d) of the rows (n, d).

    Without weights they are interpolated linearly between rows, as by NumPy. With weights a quantile of share q is the mean of
    the smallest and the largest value that splits the weights by q, as of rows repeated according to their weights.

    >>> quantiles_of(np.array([[1.0], [2.0], [4.0]]), np.array([0.5, 0.75])).tolist()
    [[2.0], [3.0]]
    >>> quantiles_of(np.array([[1.0], [2.0], [4.0]]), np.array([0.5]), np.array([1.0, 1.0, 2.0])).tolist()
    [[3.0]]
    """
    if weights is None:
        plain: Array = np.quantile(rows, shares, axis=0)
        return plain
    used = weights > 0
    rows, weights = rows[used], weights[used]
    order = np.argsort(rows, axis=0, kind="stable")
    sums = np.cumsum(weights[order], axis=0)
    found = np.empty((len(shares), rows.shape[1]))
    for at, (own, total) in enumerate(zip(order.T, sums.T, strict=True)):
        wanted = shares * total[-1]
        ends = [
            np.minimum(np.searchsorted(total, wanted, side=side), len(own) - 1) for side in ("left", "right")
        ]
        found[:, at] = (rows[own[ends[0]], at] + rows[own[ends[1]], at]) / 2
    return found


@method(
    row="K6",
    reference="Holzmüller, Grinsztajn and Steinwart 2024, Better by default: strong pre-tuned MLPs (RealMLP)",
    formula="u / sqrt(1 + (u/c)^2), u = (x - median) / (q75 - q25), or 2 (x - median) / (max - min) where q25 = q75",
    note="for tables; the bound c replaces data.clip. Missing values count as the median.",
)
def robust(
    rows: Array, weights: Array | None = None, /, *, clip: Positive = ROBUST_CLIP
) -> tuple[Array, Array]:
    """Center each input by its median and divide it by the distance of its quartiles; then bound it smoothly.

    Neither statistic depends on how far the largest values lie, and the bound keeps these within ±c.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.
        clip: c. Default 3.

    Returns: shift (d,) and scale (d,), 1 for a constant input.

    >>> shift, scale = robust(np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4000.0, 8.0]]))
    >>> shift.tolist(), scale.tolist()
    ([2.0, 0.0], [2.0, 4.0])
    """
    low, middle, high = quantiles_of(rows, np.array([0.25, 0.5, 0.75]), weights)
    counted = rows if weights is None else rows[weights > 0]
    half_range = (counted.max(axis=0) - counted.min(axis=0)) / 2
    scale = np.where(high > low, high - low, half_range)
    return middle, np.where(scale > 0, scale, 1.0)


@method(
    row="K6",
    reference="scikit-learn's QuantileTransformer(output_distribution='normal')",
    formula="Phi^-1(p), with p the share of the training rows below x, interpolated between Q quantiles",
    note="for tables. The shares are bounded by 1e-7 and 1 - 1e-7, so that numbers beyond the training rows become ±5.2.",
)
def quantile(
    rows: Array, weights: Array | None = None, /, *, quantiles: Count = QUANTILES
) -> tuple[Array, Array]:
    """Map each input to a normal one by its quantiles in the training rows.

    Any increasing function of an input gives the same result. A value that several quantiles share is mapped to the middle of
    their shares.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.
        quantiles: Q, at most the number of training rows. Default 1000.

    Returns: shift (d,) and scale (d,) before the quantiles: the median, and the largest distance from it, 1 for a constant.

    >>> shift, scale = quantile(np.array([[0.0], [1.0], [5.0]]))
    >>> shift.tolist(), scale.tolist()
    ([1.0], [4.0])
    """
    middle = quantiles_of(rows, np.array([0.5]), weights)[0]
    reach = np.abs(rows - middle).max(axis=0)
    return middle, np.where(reach > 0, reach, 1.0)


_CENTRAL = (
    (-39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716, 2.506628277459239),
    (-54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1.0),
)  # fmt: skip
_TAIL = (
    (-0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968, 2.938163982698783),
    (0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1.0),
)  # fmt: skip
_TAIL_BELOW = 0.02425


def _ratio(x: Tensor, coefficients: tuple[Sequence[float], Sequence[float]]) -> Tensor:
    """Return the ratio of two polynomials, with coefficients from the highest power."""
    top, bottom = (torch.zeros_like(x) for _ in range(2))
    for each in coefficients[0]:
        top = top * x + each
    for each in coefficients[1]:
        bottom = bottom * x + each
    return top / bottom


def normal_quantile(p: Tensor) -> Tensor:
    """Return Φ⁻¹(p) for 0 < p < 1, with a relative error below 1.2e-9, by operations that every export format has.

    Source: Acklam 2003, An algorithm for computing the inverse normal cumulative distribution function.

    >>> round(normal_quantile(torch.tensor(0.975, dtype=torch.float64)).item(), 6)
    1.959964
    """
    side = torch.minimum(p, 1.0 - p)
    r = torch.sqrt(-2.0 * torch.log(torch.clamp(side, max=_TAIL_BELOW)))
    tail = _ratio(r, _TAIL) * torch.where(p < 0.5, 1.0, -1.0)
    q = p - 0.5
    return torch.where(side < _TAIL_BELOW, tail, _ratio(q * q, _CENTRAL) * q)


class NormalMap(nn.Module):
    """Map numbers to normal ones by the quantiles of their columns: float64 (n, d) → (n, d).

    Numbers of columns without quantiles are left unchanged.

    Args:
        quantiles: for each column its quantiles of the shares 0, 1/(Q−1), ..., 1, in increasing order; empty for none.

    >>> NormalMap([(0.0, 1.0, 4.0), ()])(torch.tensor([[1.0, 7.0]], dtype=torch.float64)).tolist()
    [[0.0, 7.0]]
    """

    value: Tensor
    below: Tensor
    through: Tensor
    last: Tensor
    first: Tensor

    def __init__(self, quantiles: Sequence[Sequence[float]]) -> None:
        super().__init__()
        distinct = [np.unique(np.array(each), return_index=True, return_counts=True) for each in quantiles]
        self.size = max(2, *(len(values) for values, _, _ in distinct))
        tables = np.full((3, len(quantiles), self.size), 1.0)
        for at, ((values, first, count), own) in enumerate(zip(distinct, quantiles, strict=True)):
            if len(values):
                steps = max(1, len(own) - 1)
                # Padding lies beyond every number, which is limited to the last quantile.
                tables[0, at], tables[0, at, : len(values)] = np.finfo(np.float64).max, values
                tables[1, at, : len(values)] = first / steps
                tables[2, at, : len(values)] = (first + count - 1) / steps
        ends = [(each[0], each[-1]) if len(each) else (0.0, 0.0) for each in quantiles]
        numbers = {
            "value": tables[0].reshape(-1),
            "below": tables[1].reshape(-1),
            "through": tables[2].reshape(-1),
            "first": np.array([low for low, _ in ends]),
            "last": np.array([high for _, high in ends]),
        }
        for name, content in numbers.items():
            self.register_buffer(name, torch.from_numpy(content), persistent=False)
        self.register_buffer("start", torch.arange(len(quantiles)) * self.size, persistent=False)
        self.register_buffer("mapped", torch.tensor([len(each) > 1 for each in quantiles]), persistent=False)

    start: Tensor
    mapped: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Return the mapped numbers."""
        inside = torch.minimum(torch.maximum(x, self.first), self.last)
        index = torch.zeros_like(inside, dtype=torch.int64)
        step = 1 << (self.size - 1).bit_length()
        while step > 1:  # binary search of the last quantile that is not above the number
            step //= 2
            further = index + step
            at = torch.clamp(further, max=self.size - 1)
            index = torch.where(
                (further < self.size) & (self.value[self.start + at] <= inside), further, index
            )
        at = self.start + index
        after = self.start + torch.clamp(index + 1, max=self.size - 1)
        left, through = self.value[at], self.through[at]
        width = self.value[after] - left
        between = through + (inside - left) / torch.where(width > 0, width, 1.0) * (
            self.below[after] - through
        )
        share = torch.where(inside == left, 0.5 * (self.below[at] + through), between)
        share = torch.where(x <= self.first, 0.0, torch.where(x >= self.last, 1.0, share))
        return torch.where(self.mapped, normal_quantile(torch.clamp(share, _END, 1.0 - _END)), x)
