"""Decorrelation of the inputs: principal components, PCA whitening and ZCA whitening.

Each method is a function of the training rows (n, d) that returns a shift (d,), a scale (d,) and a matrix
(d, d); a row x enters the network as ((x - shift) / scale) @ matrix.

With C = V diag(l) V^T the covariance of the shifted and scaled rows, l_1 >= l_2 >= ...:

=======  ===========================  ===========================================================
method   matrix                       covariance of the result
=======  ===========================  ===========================================================
pca      V                            diag(l)
whiten   V diag(l + r)^(-1/2)         I
zca      V diag(l + r)^(-1/2) V^T     I, with the smallest mean squared change of the rows
=======  ===========================  ===========================================================

r is ``ridge`` times the mean of l. ``whiten`` and ``zca`` drop directions in which the training rows do not vary
(up to rounding): these carry no information, and dividing by their standard deviation would amplify noise in new rows.
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
"""Largest number of inputs d: the d x d matrix is stored in the schema, 8 bytes per number."""
STANDARDIZE = True
"""The default of ``standardize``."""
_BLOCK = 2**22  # numbers converted to float64 at a time
_KESSY = "Kessy, Lewin and Strimmer 2018, The American Statistician 72(4)"


@dataclass(frozen=True)
class Rotation:
    """A fitted linear map, as stored in a schema: values v, (n, d), become (v - center) @ matrix.

    The d x d numbers are stored as a base64 string of little-endian float64, which is exact and half as long as a
    list of decimals.

    Args:
        size: the number of inputs d.
        center: the mean of v over the training rows.
        packed: the matrix in base64, row by row.

    >>> Rotation.of(np.zeros(2), np.eye(2)).matrix.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """

    size: int
    center: tuple[float, ...]
    packed: str

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    @classmethod
    def of(cls, center: Array, matrix: Array) -> Rotation:
        """Return the map with a center (d,) and a matrix (d, d)."""
        content = base64.b64encode(np.ascontiguousarray(matrix, dtype="<f8").tobytes()).decode()
        return cls(len(center), tuple(np.asarray(center, dtype=np.float64).tolist()), content)

    @property
    def matrix(self) -> Array:
        """The matrix, float64 (d, d)."""
        numbers = np.frombuffer(base64.b64decode(self.packed), dtype="<f8")
        return numbers.reshape(self.size, self.size).astype(np.float64)

    def fault(self) -> str:
        """Return what is wrong with a map read from a file, or an empty string."""
        if self.size < 1 or len(self.center) != self.size:
            return "the rotation's center needs one number per input"
        try:
            matrix = self.matrix
        except ValueError:  # of base64 as well
            return f"the rotation is not a matrix of {self.size} x {self.size} numbers"
        return "" if np.isfinite(matrix).all() else "the rotation contains numbers that are not finite"


def covariance(rows: Array, weights: Array | None = None) -> tuple[Array, Array]:
    """Return the mean (d,) and the covariance (d, d), normalized by n, of rows (n, d) of any numeric type.

    Rows are processed in blocks, which bounds the memory, and relative to the first row, so that a large offset
    costs no precision. The moments of two blocks are combined as in Chan, Golub and LeVeque (1983).

    Args:
        rows: (n, d).
        weights: a weight for each row, 0 or more, or None; an integer weight is equivalent to repeating the row.

    >>> mean, moments = covariance(np.array([[1.0, 0.0], [3.0, 0.0]]))
    >>> mean.tolist(), moments.tolist()
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
        center = (block.sum(axis=0) if own is None else own @ block) / count
        block -= center
        moment += block.T @ (block if own is None else own[:, None] * block)
        difference = center - mean
        moment += np.outer(difference, difference) * (total * count / (total + count))
        total += count
        mean += difference * (count / total)
    return origin + mean, moment / total


@method(
    row="F2",
    reference="Pearson 1901; scikit-learn's PCA",
    formula="((x - mean) / scale) V, with covariance V diag(l) V^T, l descending",
    note="for at most 1024 numeric columns of a table or pixels of an image. scikit-learn only centers the columns "
    "first (standardize = false).",
)
def pca(
    rows: Array, weights: Array | None = None, /, *, standardize: bool = STANDARDIZE
) -> tuple[Array, Array, Array]:
    """Principal components: rotate the inputs to uncorrelated directions, in order of decreasing variance.

    The rotation preserves lengths and angles. The entry of largest magnitude in each direction is positive, as in
    scikit-learn.

    Args:
        rows: training inputs (n, d), without missing values.
        weights: a weight for each row, or None.
        standardize: whether columns are first divided by their standard deviation, so that the result does not
            depend on units. Pixels are divided by the standard deviation of their channel instead. Default true.

    Returns: shift (d,), scale (d,) and matrix (d, d).

    >>> rows = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]])
    >>> shift, scale, matrix = pca(rows, standardize=False)
    >>> (((rows - shift) / scale) @ matrix).round(3).tolist()
    [[-1.414, 0.0], [0.0, 0.0], [1.414, 0.0]]
    """
    shift, scale, _, vectors = _directions(rows, weights, standardize)
    return shift, scale, vectors


@method(
    row="F2",
    reference=f"scikit-learn's PCA(whiten=True); {_KESSY} (PCA-cor)",
    formula="((x - mean) / scale) V diag(l + r)^(-1/2), r = ridge mean(l)",
    note="the variance is normalized by n; scikit-learn's by n - 1. Dividing by the singular values instead, as some "
    "texts do, gives columns of length 1 rather than variance 1.",
)
def whiten(
    rows: Array,
    weights: Array | None = None,
    /,
    *,
    ridge: NonNegative = 1e-8,
    standardize: bool = STANDARDIZE,
) -> tuple[Array, Array, Array]:
    """PCA whitening: principal components divided by their standard deviations, with covariance I.

    Args:
        rows: training inputs (n, d), without missing values.
        weights: a weight for each row, or None.
        ridge: a constant added to each variance, in units of their mean: directions with a smaller variance are
            not scaled up to variance 1. For images, 0.01 to 0.1 avoids amplifying noise. Default 1e-8.
        standardize: whether columns are first divided by their standard deviation, so that the result does not
            depend on units. Pixels are divided by the standard deviation of their channel instead. Default true.

    Returns: shift (d,), scale (d,) and matrix (d, d).

    >>> rows = np.array([[0.0, 0.0], [1.0, 1.0], [2.0, -1.0], [3.0, 4.0]])
    >>> shift, scale, matrix = whiten(rows)
    >>> np.abs(np.cov(((rows - shift) / scale) @ matrix, rowvar=False, ddof=0)).round(6).tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    shift, scale, variances, vectors = _directions(rows, weights, standardize)
    return shift, scale, vectors * _inverse_roots(variances, ridge)


@method(
    row="F2",
    reference=f"Bell and Sejnowski 1997, Vision Research 37(23); {_KESSY} (ZCA-cor)",
    formula="((x - mean) / scale) V diag(l + r)^(-1/2) V^T, r = ridge mean(l)",
    note="inputs keep their positions, so an image remains an image: suitable for convolutional networks. At most "
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
    """ZCA whitening: covariance I with the smallest change of the inputs.

    The matrix is symmetric. Among all whitening matrices it minimizes the mean squared distance between a row
    before and after.

    Args:
        rows: training inputs (n, d), without missing values.
        weights: a weight for each row, or None.
        ridge: a constant added to each variance, in units of their mean: directions with a smaller variance are
            not scaled up to variance 1. For images, 0.01 to 0.1 avoids amplifying noise. Default 1e-8.
        standardize: whether columns are first divided by their standard deviation, so that the result does not
            depend on units. Pixels are divided by the standard deviation of their channel instead. Default true.

    Returns: shift (d,), scale (d,) and matrix (d, d).

    >>> matrix = zca(np.array([[0.0, 0.0], [1.0, 1.0], [2.0, -1.0], [3.0, 4.0]]))[2]
    >>> bool(np.allclose(matrix, matrix.T))
    True
    """
    shift, scale, variances, vectors = _directions(rows, weights, standardize)
    half = vectors * np.sqrt(_inverse_roots(variances, ridge))
    with threadpool_limits(1):
        return shift, scale, half @ half.T


ROTATIONS: dict[str, Callable[..., tuple[Array, Array, Array]]] = {"pca": pca, "whiten": whiten, "zca": zca}


def _directions(rows: Array, weights: Array | None, standardize: bool) -> tuple[Array, Array, Array, Array]:
    """Return shift, scale, and the variances and principal directions (columns) of the shifted and scaled rows.

    It runs on one thread: another number of threads would round differently, and a resumed run would get different
    inputs.
    """
    with threadpool_limits(1):
        shift, moments = covariance(rows, weights)
        scale = np.ones(len(shift))
        if standardize:
            deviation = np.sqrt(np.diag(moments))
            constant = deviation <= 16 * np.finfo(np.float64).eps * np.abs(shift)
            scale = np.where(constant, 1.0, deviation)
            moments = moments / scale / scale[:, None]
        variances, vectors = np.linalg.eigh(moments)
    variances, vectors = np.maximum(variances[::-1], 0.0), vectors[:, ::-1]
    largest = np.abs(vectors).argmax(axis=0)
    return shift, scale, variances, vectors * np.sign(vectors[largest, np.arange(len(largest))])


def _inverse_roots(variances: Array, ridge: float) -> Array:
    """Return (l + r)^(-1/2), and 0 for variances that are rounding errors."""
    rounding = 16 * len(variances) * np.finfo(np.float64).eps * variances[0]
    varies = variances > rounding
    raised = np.where(varies, variances + ridge * variances.mean(), 1.0)
    roots: Array = np.where(varies, 1.0 / np.sqrt(raised), 0.0)
    return roots
