"""Scales of each input: standard, center, minmax, robust, quantile, none.

A scale is a function of the training rows (n, d) that returns a shift and a scale, both of shape (d,);
an input x enters the network as (x - shift) / scale. To add a scale, write one function and one line in
``ELEMENTWISE``. Scales of all inputs together, which also return a matrix, are in
:mod:`descend.data.decorrelation`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from descend.cards import method
from descend.data.decorrelation import ROTATIONS
from descend.data.quantiles import quantile, robust
from descend.data.source import Array

__all__ = [
    "ELEMENTWISE",
    "OF_TABLES",
    "SCALES",
    "UNIT",
    "Scale",
    "center",
    "minmax",
    "none",
    "standard",
]

Scale = Callable[[Array, "Array | None"], "tuple[Array, Array]"]


@method(
    row="F1",
    reference="LeCun et al. 1998 (Efficient BackProp); scikit-learn's StandardScaler",
    formula="(x - mean) / standard deviation",
    note="the standard deviation is normalized by n; a constant input has scale 1",
)
def standard(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Standardize each input to mean 0 and standard deviation 1.

    The mean is computed relative to the first row, so that inputs with a large offset (dates, identifiers) lose
    no precision.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.

    Returns: shift (d,) and scale (d,).

    >>> shift, scale = standard(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> shift.tolist(), scale.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    total = len(rows) if weights is None else weights.sum()
    origin = rows[0].copy()
    centered = rows - origin
    mean = _sum(centered, weights) / total
    centered -= mean
    correction = _sum(centered, weights) / total
    centered -= correction
    shift = origin + (mean + correction)
    centered *= centered
    deviation = np.sqrt(_sum(centered, weights) / total)
    constant = deviation <= 16 * np.finfo(np.float64).eps * np.abs(shift)
    return shift, np.where(constant, 1.0, deviation)


def _sum(rows: Array, weights: Array | None) -> Array:
    total: Array = rows.sum(axis=0) if weights is None else weights @ rows
    return total


@method(
    row="F1",
    reference="LeCun et al. 1998 (Efficient BackProp); scikit-learn's StandardScaler(with_std=False)",
    formula="x - mean",
    note="units do not change, and the smooth bound (data.clip) does not apply",
)
def center(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Center each input to mean 0, without changing its unit.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.

    Returns: shift (d,) and scale (d,), which is 1.

    >>> center(np.array([[1.0, 5.0], [3.0, 5.0]]))[0].tolist()
    [2.0, 5.0]
    """
    shift, _ = standard(rows, weights)
    return shift, np.ones_like(shift)


@method(
    row="F1",
    reference="scikit-learn's MinMaxScaler",
    formula="(x - min) / (max - min)",
    note="new rows may lie outside [0, 1], and one outlier compresses all other values; the smooth bound "
    "(data.clip) does not apply",
)
def minmax(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Scale each input so that the training rows range from 0 to 1.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None; rows of weight 0 are ignored.

    Returns: shift (d,) and scale (d,), 1 for a constant input.

    >>> shift, scale = minmax(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> shift.tolist(), scale.tolist()
    ([1.0, 5.0], [2.0, 1.0])
    """
    counted = rows if weights is None else rows[weights > 0]
    low, high = counted.min(axis=0), counted.max(axis=0)
    return low, np.where(high > low, high - low, 1.0)


@method(row="F1", reference="raw numbers", formula="x", note="shows why scaling matters")
def none(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Leave the inputs unchanged."""
    return np.zeros(rows.shape[1]), np.ones(rows.shape[1])


ELEMENTWISE: dict[str, Scale] = {
    "standard": standard,
    "center": center,
    "minmax": minmax,
    "robust": robust,
    "quantile": quantile,
    "none": none,
}
"""Scales that treat each input independently."""
SCALES: dict[str, Callable[..., tuple[Array, ...]]] = {**ELEMENTWISE, **ROTATIONS}
"""All scales by name."""
OF_TABLES = frozenset({"robust", "quantile"})
"""Scales of the columns of tables only."""
UNIT = frozenset({"standard", "whiten", "zca"})
"""Scales with standard deviation 1, to which the smooth bound (``data.clip``) applies."""
