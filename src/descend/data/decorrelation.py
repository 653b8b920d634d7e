"""Scales of all inputs together: rotation to principal directions and whitening.

A rotation is a function of the training rows (n, d) that returns shift, spread, both (d,), and a matrix
(d, d); a row x enters the network as ((x - shift) / spread) @ matrix.

With C = V diag(l) V^T the covariance of the shifted and divided rows, l_1 >= l_2 >= ...:

=======  ===========================  ===========================================================
pca      V                            covariance diag(l)
whiten   V diag(l + r)^(-1/2)         covariance I
zca      V diag(l + r)^(-1/2) V^T     covariance I, and the nearest to the rows that it can be
=======  ===========================  ===========================================================

r is ``ridge`` times the mean of l. Directions in which the training rows do not vary at all (to rounding)
are dropped by the two that divide: they say nothing, and a new row's part in them would be blown up.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from threadpoolctl import threadpool_limits

from descend.cards import method
from descend.data.columns import STRICT
from descend.data.source import Array
from descend.param_types import NonNegative

__all__ = ["LARGEST_SIDE", "ROTATIONS", "STANDARDIZE", "Rotation", "covariance", "pca", "whiten", "zca"]

LARGEST_SIDE = 1024
"""Inputs that are rotated together at most: the matrix travels with the schema, 8 bytes a number."""
STANDARDIZE = True
"""The default of ``standardize``."""
_BLOCK = 2**22  # numbers held in float64 at a time
_KESSY = "Kessy, Lewin and Strimmer 2018, The American Statistician 72(4)"


@dataclass(frozen=True)
class Rotation:
    """A fitted rotation, as a schema holds it: values v, (n, d), become (v - centre) @ matrix.

    The d x d numbers are kept as text, base64 of little-endian float64, which is half as long as a list of
    decimals and exact.

    Args:
        size: d.
        centre: the training rows' mean of v.
        packed: the matrix, row by row.

    >>> Rotation.of(np.zeros(2), np.eye(2)).matrix.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    size: int
    centre: tuple[float, ...]
    packed: str

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    @classmethod
    def of(cls, centre: Array, matrix: Array) -> Rotation:
        """From arrays (d,) and (d, d)."""
        content = base64.b64encode(np.ascontiguousarray(matrix, dtype="<f8").tobytes()).decode()
        return cls(len(centre), tuple(np.asarray(centre, dtype=np.float64).tolist()), content)

    @property
    def matrix(self) -> Array:
        """The matrix, float64 (d, d)."""
        numbers = np.frombuffer(base64.b64decode(self.packed), dtype="<f8")
        return numbers.reshape(self.size, self.size).astype(np.float64)

    def fault(self) -> str:
        """What is wrong with what was read from a file, or nothing."""
        if self.size < 1 or len(self.centre) != self.size:
            return "the rotation's centre needs a number for each input"
        try:
            matrix = self.matrix
        except ValueError:  # of base64 as well
            return f"the rotation is no matrix of {self.size} x {self.size} numbers"
        return "" if np.isfinite(matrix).all() else "the rotation holds numbers that are not finite"


def covariance(rows: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Mean (d,) and covariance (d, d), divided by n, of rows (n, d) of any numeric type.

    Rows are taken block by block, so that memory stays bounded, and seen from the first row, so that an offset
    costs no digits. The moments of two sets of rows are joined as by Chan, Golub and LeVeque (1983).

    Args:
        rows: (n, d).
        weights: a weight for each row, 0 or more, or None; a whole number counts as a repetition.

    >>> mean, spread = covariance(np.array([[1.0, 0.0], [3.0, 0.0]]))
    >>> mean.tolist(), spread.tolist()
    ([2.0, 0.0], [[1.0, 0.0], [0.0, 0.0]])
    """
    width = rows.shape[1]
    origin = rows[0].astype(np.float64)
    total, mean, moment = 0.0, np.zeros(width), np.zeros((width, width))
    step = max(1, _BLOCK // max(1, width))
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64) - origin
        own = None if weights is None else weights[start : start + step].astype(np.float64)
        count = float(len(block)) if own is None else float(own.sum())
        if count == 0:
            continue
        centre = (block.sum(axis=0) if own is None else own @ block) / count
        block -= centre
        moment += block.T @ (block if own is None else own[:, None] * block)
        apart = centre - mean
        moment += np.outer(apart, apart) * (total * count / (total + count))
        total += count
        mean += apart * (count / total)
    return origin + mean, moment / total


@method(
    row="F2",
    reference="Pearson 1901; the lecture's X @ VT.T; scikit-learn's PCA",
    formula="((x - mean) / spread) V, with covariance V diag(l) V^T, l descending",
    note="numbers of a table, or the pixels of an image, at most 1024. The lecture and scikit-learn only "
    "centre the columns first (standardize = false).",
)
def pca(
    rows: Array, weights: Array | None = None, /, *, standardize: bool = STANDARDIZE
) -> tuple[Array, Array, Array]:
    """Principal components: the inputs turned until no two are correlated, the widest first.

    The turn keeps lengths and angles. In each direction the entry of largest magnitude is positive, as in
    scikit-learn.

    Args:
        rows: training inputs (n, d), without missing values.
        weights: a weight for each row, or None.
        standardize: whether columns are first divided by their standard deviation, so that units do not
            matter. Pixels are in units of their channel's deviation instead. Default true.

    Returns: shift (d,), spread (d,) and matrix (d, d).

    >>> rows = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> shift, spread, matrix = pca(rows, standardize=False)
    >>> (((rows - shift) / spread) @ matrix).round(3).tolist()
    [[-1.414, 0.0], [0.0, 0.0], [1.414, 0.0]]
    """
    shift, spread, _, vectors = _directions(rows, weights, standardize)
    return shift, spread, vectors


@method(
    row="F2",
    reference=f"scikit-learn's PCA(whiten=True); {_KESSY} (PCA-cor)",
    formula="((x - mean) / spread) V diag(l + r)^(-1/2), r = ridge mean(l)",
    note="the lecture's Xrot / (S + eps) = U has columns of length 1; variance 1 needs the factor sqrt(m), "
    "which is here. The variance divides by m, scikit-learn's by m - 1. The lecture only centres the columns "
    "first (standardize = false).",
)
def whiten(
    rows: Array,
    weights: Array | None = None,
    /,
    *,
    ridge: NonNegative = 1e-8,
    standardize: bool = STANDARDIZE,
) -> tuple[Array, Array, Array]:
    """Principal components divided by their standard deviations: covariance I.

    Args:
        rows: training inputs (n, d), without missing values.
        weights: a weight for each row, or None.
        ridge: added to each variance, in units of their mean: a direction with less than this share is not
            brought to variance 1. Of images, 0.01 to 0.1 keeps noise from being blown up. Default 1e-8.
        standardize: whether columns are first divided by their standard deviation, so that units do not
            matter. Pixels are in units of their channel's deviation instead. Default true.

    Returns: shift (d,), spread (d,) and matrix (d, d).

    >>> rows = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, -1.0], [3.0, 4.0]])
    >>> shift, spread, matrix = whiten(rows)
    >>> np.cov(((rows - shift) / spread) @ matrix, rowvar=False, ddof=0).round(6).tolist()
    [[1.0, -0.0], [-0.0, 1.0]]
    """
    shift, spread, variances, vectors = _directions(rows, weights, standardize)
    return shift, spread, vectors * _inverse_roots(variances, ridge)


@method(
    row="F2",
    reference=f"Bell and Sejnowski 1997, Vision Research 37(23); {_KESSY} (ZCA-cor)",
    formula="((x - mean) / spread) V diag(l + r)^(-1/2) V^T, r = ridge mean(l)",
    note="inputs keep their places, so an image stays an image: the choice for convolutional networks. At most "
    "1024 inputs.",
)
def zca(
    rows: Array,
    weights: Array | None = None,
    /,
    *,
    ridge: NonNegative = 1e-8,
    standardize: bool = STANDARDIZE,
) -> tuple[Array, Array, Array]:
    """Whitening without a turn: covariance I, each input as near to what it was as it can be.

    The matrix is symmetric. Among all that whiten it has the least mean squared distance between a row
    before and after.

    Args:
        rows: training inputs (n, d), without missing values.
        weights: a weight for each row, or None.
        ridge: added to each variance, in units of their mean: a direction with less than this share is not
            brought to variance 1. Of images, 0.01 to 0.1 keeps noise from being blown up. Default 1e-8.
        standardize: whether columns are first divided by their standard deviation, so that units do not
            matter. Pixels are in units of their channel's deviation instead. Default true.

    Returns: shift (d,), spread (d,) and matrix (d, d).

    >>> matrix = zca(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, -1.0], [3.0, 4.0]]))[2]
    >>> bool(np.allclose(matrix, matrix.T))
    True
    """
    shift, spread, variances, vectors = _directions(rows, weights, standardize)
    turned = vectors * np.sqrt(_inverse_roots(variances, ridge))
    with threadpool_limits(1):
        return shift, spread, turned @ turned.T


ROTATIONS: dict[str, Callable[..., tuple[Array, Array, Array]]] = {"pca": pca, "whiten": whiten, "zca": zca}


def _directions(rows: Array, weights: Array | None, standardize: bool) -> tuple[Array, Array, Array, Array]:
    """Shift, spread, and the variances and principal directions (columns) of the rows after these.

    On one thread: more would give other last digits, and a resumed run other inputs than it started with.
    """
    with threadpool_limits(1):
        shift, moments = covariance(rows, weights)
        spread = np.ones(len(shift))
        if standardize:
            deviation = np.sqrt(np.diag(moments))
            still = deviation <= 16 * np.finfo(np.float64).eps * np.abs(shift)
            spread = np.where(still, 1.0, deviation)
            moments = moments / spread / spread[:, None]
        variances, vectors = np.linalg.eigh(moments)
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    return shift, spread, variances, vectors * np.sign(vectors[largest, np.arange(len(largest))])


def _inverse_roots(variances: Array, ridge: float) -> Array:
    """(l + r)^(-1/2); 0 for variances that are nothing but rounding."""
    rounding = 16 * len(variances) * np.finfo(np.float64).eps * variances[0]
    varies = variances > rounding
    raised = np.where(varies, variances + ridge * variances.mean(), 1.0)
    roots: Array = np.where(varies, 1.0 / np.sqrt(raised), 0.0)
    return roots
