"""Transforms of the targets of a regression, which are learned as a standardized function of themselves.

A target y is learned as z = (T(y) - mean) / scale, with an increasing function T, so that predictions, quantiles and
orders are kept, and T^-1 is part of every exported model. Each transform is one function that fits it on the training
targets, and one line in ``TARGET_SCALES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np

from descend.cards import method
from descend.data.column import STRICT
from descend.data.messages import listed, rows_hold
from descend.data.source import Array
from descend.errors import DataError
from descend.interface import setting

__all__ = ["LANDMARKS", "TARGET_SCALES", "TRANSFORMS", "TargetTransform", "log", "quantile"]

LANDMARKS = 256
"""The largest number of quantiles that describe the distribution of a target."""


@dataclass(frozen=True)
class TargetTransform:
    """An increasing function of a target.

    Args:
        name: ``log``, the natural logarithm; ``log1p``, that of 1 + y; ``quantile``, piecewise linear through the points
            (value, score), and beyond them in the directions of the first and the last piece.
        values: targets in increasing order.
        scores: what the values become, in increasing order.

    >>> TargetTransform("quantile", (0.0, 10.0), (-1.0, 1.0))(np.array([5.0, 20.0])).tolist()
    [0.0, 3.0]
    """

    name: Literal["log", "log1p", "quantile"]
    values: tuple[float, ...] = ()
    scores: tuple[float, ...] = ()

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    def __call__(self, targets: Array) -> Array:
        """Return T(y) for targets (n,).

        Raises:
            DataError: T is not defined for some of them; the message names their rows.
        """
        if self.name == "quantile":
            values, scores = np.array(self.values), np.array(self.scores)
            piece = np.clip(np.searchsorted(values, targets, side="right") - 1, 0, len(values) - 2)
            slope = np.diff(scores) / np.diff(values)
            scored: Array = scores[piece] + (targets - values[piece]) * slope[piece]
            return scored
        invalid = targets < 0 if self.name == "log1p" else targets <= 0
        if invalid.any():
            least = "of at least 0" if self.name == "log1p" else "above 0, as in training"
            raise DataError(
                f"data.target_scale = 'log' takes targets {least}, but {rows_hold(np.flatnonzero(invalid))} "
                f"{listed(dict.fromkeys(targets[invalid].tolist()), 3)}; "
                f"use {setting('data.target_scale', 'standard')}, or leave these rows out"
            )
        logarithms: Array = np.log1p(targets) if self.name == "log1p" else np.log(targets)
        return logarithms

    def fault(self) -> str:
        """Return what is wrong with a transform that was read from a file, or an empty string."""
        if self.name != "quantile":
            return "a logarithm has no values" if self.values or self.scores else ""
        if len(self.values) != len(self.scores) or len(self.values) < 2:
            return "a transform needs two or more values, each with a score"
        increasing = all((np.diff(each) > 0).all() for each in (self.values, self.scores))
        return "" if increasing else "the values and scores of a transform must increase"


@method(
    row="K7",
    reference="Box and Cox 1964; scikit-learn's TransformedTargetRegressor",
    formula="z = (log y - mean) / scale, or log(1 + y) if some target is 0",
    note="targets below 0 are refused. The prediction is the exponential of the mean logarithm: the median, if errors of "
    "the logarithm are symmetric",
)
def log(targets: Array, train: Array, weights: Array | None = None, /) -> TargetTransform:
    """Learn the logarithm of positive targets, standardized; of 1 + y if some of them are 0.

    Relative errors count equally for small and large targets.

    Args:
        targets: all targets (n,).
        train: numbers of the training rows; not used.
        weights: a weight for each training row, or None; not used.

    Raises:
        DataError: a target is below 0.

    >>> log(np.array([1.0, 0.0]), np.array([0])).name, log(np.array([1.0, 2.0]), np.array([0])).name
    ('log1p', 'log')
    """
    transform = TargetTransform("log" if (targets > 0).all() else "log1p")
    transform(targets)
    return transform


@method(
    row="K7",
    reference="scikit-learn's QuantileTransformer(output_distribution='normal')",
    formula="z = Phi^-1(F(y)), with the distribution function F of the training targets",
    note="F is known at 256 quantiles; the score is linear between them and beyond, so that every target has its own "
    "score. The prediction is about the median",
)
def quantile(targets: Array, train: Array, weights: Array | None = None, /) -> TargetTransform:
    """Learn the normal score of each target: the quantile of the standard normal distribution at its rank.

    The learned targets are normally distributed whatever the distribution of the targets is, and do not depend on
    outliers.

    Args:
        targets: all targets (n,).
        train: numbers of the training rows.
        weights: a weight for each training row, or None.

    >>> transform = quantile(np.array([1.0, 2.0, 4.0, 1e6]), np.arange(4))
    >>> transform(np.array([1.0, 2.0, 4.0])).round(2).tolist()
    [-1.15, -0.43, 0.43]
    """
    own = targets[train]
    if weights is not None:
        own, weights = own[weights > 0], weights[weights > 0]
    count = len(own)
    shares = np.linspace(0, 1, min(count, LANDMARKS))
    if weights is None or count < 2:
        values = np.quantile(own, shares)
    else:
        order = np.argsort(own, kind="stable")
        mass = np.cumsum(weights[order]) - 0.5 * weights[order]
        values = np.interp(shares, (mass - mass[0]) / (mass[-1] - mass[0]), own[order])
    distinct, inverse = np.unique(values, return_inverse=True)
    shares = np.bincount(inverse, shares) / np.bincount(inverse)
    scores = np.array([NormalDist().inv_cdf(each) for each in np.clip(shares, 0.5 / count, 1 - 0.5 / count)])
    if len(distinct) < 2:  # a constant target
        distinct, scores = np.array([distinct[0], distinct[0] + 1.0]), np.array([0.0, 1.0])
    return TargetTransform("quantile", tuple(distinct.tolist()), tuple(scores.tolist()))


@method(row="K7", reference="folklore", formula="z = (y - mean) / standard deviation")
def standard(targets: Array, train: Array, weights: Array | None = None, /) -> None:
    """Learn targets minus the mean and divided by the standard deviation of the training targets."""


@method(row="K7", reference="folklore", formula="z = y")
def none(targets: Array, train: Array, weights: Array | None = None, /) -> None:
    """Learn targets in their own units."""


TRANSFORMS: Mapping[str, Callable[..., TargetTransform]] = {"log": log, "quantile": quantile}
"""Target scales that are not linear, by name."""
TARGET_SCALES: Mapping[str, Callable[..., TargetTransform | None]] = {
    "standard": standard,
    "none": none,
    **TRANSFORMS,
}
"""Target scales by name."""
