"""Scales of the inputs, and the module that turns raw rows into what the network gets.

A scale is a function of the training rows (n, d) that returns shift and spread, both of shape (d,);
an input x enters the network as (x - shift) / spread. A new scale is one function and one line in
``ELEMENTWISE``. Scales of all inputs together, which also return a matrix, are in
:mod:`descend.data.decorrelation`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from descend.cards import method
from descend.data.decorrelation import ROTATIONS
from descend.data.source import Array

__all__ = [
    "ELEMENTWISE",
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
    reference="Ju Sun, Training DNNs (2025); scikit-learn's StandardScaler",
    formula="(x - mean) / standard deviation",
    note="the deviation divides by n; an input that does not vary keeps spread 1",
)
def standard(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Mean 0 and standard deviation 1 for each input.

    The mean is taken about the first row, so that inputs with a large offset (dates, identifiers) lose
    no digits.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.

    Returns: shift (d,) and spread (d,).

    >>> shift, spread = standard(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> shift.tolist(), spread.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    total = len(rows) if weights is None else weights.sum()
    origin = rows[0].copy()
    centred = rows - origin
    mean = _sum(centred, weights) / total
    centred -= mean
    rest = _sum(centred, weights) / total
    centred -= rest
    shift = origin + (mean + rest)
    centred *= centred
    spread = np.sqrt(_sum(centred, weights) / total)
    still = spread <= 16 * np.finfo(np.float64).eps * np.abs(shift)
    return shift, np.where(still, 1.0, spread)


def _sum(rows: Array, weights: Array | None) -> Array:
    found: Array = rows.sum(axis=0) if weights is None else weights @ rows
    return found


@method(
    row="F1",
    reference="Ju Sun, Training DNNs (2025); scikit-learn's StandardScaler(with_std=False)",
    formula="x - mean",
    note="units stay as they are, and numbers have no smooth bound (data.clip)",
)
def center(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Mean 0 for each input, which keeps its unit.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.

    Returns: shift (d,) and spread (d,), which is 1.

    >>> center(np.array([[1.0, 5.0], [3.0, 5.0]]))[0].tolist()
    [2.0, 5.0]
    """
    shift, _ = standard(rows, weights)
    return shift, np.ones_like(shift)


@method(
    row="F1",
    reference="scikit-learn's MinMaxScaler",
    formula="(x - min) / (max - min)",
    note="new rows may lie outside [0, 1], and one outlier presses the others together; numbers have no "
    "smooth bound (data.clip)",
)
def minmax(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """From 0, the smallest training value of each input, to 1, the largest.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None; rows of weight 0 do not count.

    Returns: shift (d,) and spread (d,), 1 where an input does not vary.

    >>> shift, spread = minmax(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> shift.tolist(), spread.tolist()
    ([1.0, 5.0], [2.0, 1.0])
    """
    counted = rows if weights is None else rows[weights > 0]
    low, high = counted.min(axis=0), counted.max(axis=0)
    return low, np.where(high > low, high - low, 1.0)


@method(row="F1", reference="the raw numbers", formula="x", note="shows why scaling matters")
def none(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Inputs as they are."""
    return np.zeros(rows.shape[1]), np.ones(rows.shape[1])


ELEMENTWISE: dict[str, Scale] = {"standard": standard, "center": center, "minmax": minmax, "none": none}
"""Scales of each input by itself."""
SCALES: dict[str, Callable[..., tuple[Array, ...]]] = {**ELEMENTWISE, **ROTATIONS}
UNIT = frozenset({"standard", "whiten", "zca"})
"""Scales that give numbers a standard deviation of 1, to which the smooth bound applies."""
