"""Bins of numbers, for piecewise-linear encodings: quantiles, or the thresholds of a small decision tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

__all__ = ["quantile_edges", "tree_edges"]

Array = npt.NDArray[Any]


def quantile_edges(values: Array, bins: int) -> Array:
    """Return the quantiles 0, 1/B, ..., 1 of the values, each once, in increasing order.

    Between two values quantiles are interpolated linearly. Where a value is so frequent that several quantiles coincide, there
    are fewer bins; a constant has a single edge, and so no bin.

    Args:
        values: (n,), float32, n ≥ 1, without NaN.
        bins: B, the largest number of bins.

    Returns: edges, float32 (k,), 1 ≤ k ≤ B + 1.

    >>> quantile_edges(np.array([0, 1, 2, 3, 4], dtype=np.float32), 2).tolist()
    [0.0, 2.0, 4.0]
    >>> quantile_edges(np.array([0, 0, 0, 0, 8], dtype=np.float32), 4).tolist()
    [0.0, 8.0]
    """
    edges: Array = np.unique(
        np.quantile(values.astype(np.float64), np.linspace(0.0, 1.0, bins + 1)).astype(np.float32)
    )
    return edges


def tree_edges(
    values: Array, targets: Array, bins: int, *, classes: bool, leaf_rows: int, weights: Array | None = None
) -> Array:
    """Return the least value, the thresholds of a decision tree that predicts the targets from the values, and the largest value.

    The tree is grown best first: each split is the one with the largest decrease of the impurity (squared error, or Gini's
    impurity of classes), until there are B leaves or no split decreases it.

    Args:
        values: (n,), float32, n ≥ 1, without NaN.
        targets: (n,) class codes, or numbers (n,) or (n, T).
        bins: B, the largest number of bins.
        classes: whether the targets are class codes.
        leaf_rows: the smallest number of rows in a leaf.
        weights: a weight of each row, or None.

    Returns: edges, float32 (k,), in increasing order; one for a constant.

    >>> steps = np.array([0, 0, 0, 5, 5, 9, 9, 9], dtype=np.float32)
    >>> tree_edges(np.arange(8, dtype=np.float32), steps, 3, classes=False, leaf_rows=1).tolist()
    [0.0, 2.5, 4.5, 7.0]
    """
    ends = [values.min(), values.max()]
    thresholds: list[float] = []
    if bins > 1 and len(values) >= 2 * leaf_rows:
        from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

        # One input is enough for the seed to have no effect: there is nothing to choose among.
        kind = DecisionTreeClassifier if classes else DecisionTreeRegressor
        fitted = kind(max_leaf_nodes=bins, min_samples_leaf=leaf_rows, random_state=0)
        fitted.fit(values[:, None], targets, sample_weight=weights)
        tree = fitted.tree_
        thresholds = tree.threshold[tree.children_left != tree.children_right].tolist()
    edges: Array = np.unique(np.array([*ends, *thresholds], dtype=np.float32))
    return edges


def as_array(tensor: Tensor) -> Array:
    """Return a tensor's values as an array on the CPU."""
    array: Array = tensor.detach().cpu().numpy()
    return array
