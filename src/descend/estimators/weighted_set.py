"""Rows as a weighted set: what a row's weight means.

An estimator learns from the weighted set of its rows and from nothing else. A weight of 2 and giving the
row twice are the same set, a weight of 0 and leaving the row out are the same set, and the order of the
rows is no part of it. This is made true by construction: equal rows are merged into one, with the sum of
their weights, rows of weight 0 are dropped, and what remains is put in an order that depends on the content
alone. Everything after, the split, the scaling, the initial weights, the order of the batches, is a
function of that list and of the seed, so training gives the same bits for every way to write the same set.

Merging also keeps copies of a row from standing on both sides of the split between training and validation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from descend.data.parsing import tidy
from descend.data.settings import MISSING
from descend.data.source import Array, Source
from descend.data.split import split

__all__ = ["Distinct", "counted", "distinct", "taken", "validation_words"]

NOTHING = 1e-12
"""A weight below this share of the largest counts as 0."""

_BLOCK = 8192  # rows turned into bytes at a time


@dataclass(frozen=True, eq=False)
class Distinct:
    """The different rows of a source.

    Args:
        rows: the number in the source of one row of each kind, in an order that depends on content alone,
            (m,).
        weights: the weight of each kind, the smallest being 1, (m,); None where all are equal.
        groups: rows of one group have the same inputs (and different targets), (m,).
    """

    rows: Array
    weights: Array | None
    groups: Array

    @property
    def inputs(self) -> int:
        """The number of different inputs."""
        return int(self.groups.max()) + 1


def distinct(
    source: Source, codes: Array, weights: Array | None = None, missing: Sequence[str] = MISSING
) -> Distinct:
    """The different rows of a source, with their weights.

    Args:
        source: the rows.
        codes: the targets as numbers, (n,) or (n, T).
        weights: of the rows, 0 or more, not all 0; None for 1 each.
        missing: words that stand for a missing value in text.

    >>> from descend.data.arrays import from_arrays
    >>> y = np.array([0, 1, 0])
    >>> twice = distinct(from_arrays([[1.0], [2.0], [1.0]], y), y)
    >>> heavy = distinct(from_arrays([[2.0], [1.0]], y[1::-1]), y[1::-1], np.array([0.5, 1.0]))
    >>> sorted(twice.rows.tolist()), twice.weights.tolist() == heavy.weights.tolist()
    ([0, 1], True)
    """
    own = np.ones(len(codes)) if weights is None else weights
    kept = np.flatnonzero(counted(own))
    whole, inputs = _digests(source, codes, missing)
    # Equal rows are ordered by weight: the bits of a sum of weights then do not depend on the rows' order.
    kept = kept[np.lexsort((own[kept], whole[kept, 1], whole[kept, 0], inputs[kept]))]
    ordered = whole[kept]
    first = np.flatnonzero(np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1)))
    sums = np.add.reduceat(own[kept], first)
    rows = kept[first]
    sums = sums / sums.min()
    _, groups = np.unique(inputs[rows], return_inverse=True)
    return Distinct(rows, None if (sums == 1.0).all() else sums, groups)


def counted(weights: Array) -> Array:
    """Which rows count, (n,) bool.

    >>> counted(np.array([0.0, 1.0, 1e-15])).tolist()
    [False, True, False]
    """
    found: Array = weights > NOTHING * weights.max()
    return found


def _digests(source: Source, codes: Array, missing: Sequence[str]) -> tuple[Array, Array]:
    """128 bits of inputs and target, uint64 (n, 2), and 64 bits of the inputs alone, uint64 (n,)."""
    wholes, inputs = [], []
    ends = np.ascontiguousarray(codes, dtype=np.float64).reshape(len(codes), -1) + 0.0
    place = 0
    for block in _numbers(source, missing):
        values = np.ascontiguousarray(block, dtype=np.float64) + 0.0  # one zero, not two
        values[np.isnan(values)] = np.nan  # one NaN, not many
        for row in values:
            digest = blake2b(row.tobytes(), digest_size=16)
            inputs.append(digest.digest())
            digest.update(ends[place].tobytes())
            wholes.append(digest.digest())
            place += 1
    whole = np.frombuffer(b"".join(wholes), dtype="<u8").reshape(-1, 2)
    return whole, np.frombuffer(b"".join(inputs), dtype="<u8")[::2]


def _numbers(source: Source, missing: Sequence[str]) -> Iterator[Array]:
    """The inputs as numbers, (b, d), block by block; texts as their rank among the texts of their column."""
    if source.frame is None:
        assert source.inputs is not None
        for start in range(0, len(source.inputs), _BLOCK):
            block = source.inputs[start : start + _BLOCK]
            yield block.reshape(len(block), -1)
        return
    import polars as pl

    columns: list[pl.Series] = []
    for series in source.frame:
        values = series if series.dtype.is_numeric() else tidy(series, missing)
        if values.dtype == pl.String:
            values = values.rank("dense")
        elif values.dtype == pl.Datetime:
            values = values.cast(pl.Int64)
        columns.append(values.cast(pl.Float64, strict=False))
    frame = pl.DataFrame(columns)
    for start in range(0, len(frame), _BLOCK):
        yield frame[start : start + _BLOCK].to_numpy()


def taken(source: Source, found: Distinct, split: Array | None = None) -> Source:
    """A source of the different rows alone, with their weights."""
    rows = found.rows
    return dataclasses.replace(
        source,
        targets=None if source.targets is None else source.targets[rows],
        frame=None if source.frame is None else source.frame[rows.tolist()],
        inputs=None if source.inputs is None else source.inputs[rows],
        weights=found.weights,
        split=split,
    )


def validation_words(found: Distinct, labels: Array | None, *, share: float, seed: int) -> Array | None:
    """Which rows validate, where some inputs occur with several targets; None where none do.

    The rows of one input stay together. Apart, training would see only some of the targets that the
    input has, and take the chances among them for other than they are.

    Args:
        found: the different rows.
        labels: their classes' codes, to divide each class alike; None for regression.
        share: of the inputs that validate.
        seed: of the split.

    Returns:
        "train" or "validation" for each row, (m,).
    """
    if not share or found.inputs == len(found.rows):
        return None
    _, first = np.unique(found.groups, return_index=True)
    own = None if labels is None else labels[first]
    task = "regression" if labels is None else "multiclass"
    parts = split(len(first), own, task=task, validation=share, test=0.0, seed=seed)
    held = np.zeros(len(first), dtype=bool)
    held[parts.validation] = True
    if labels is not None:  # a class that only follows others in its inputs may have lost all its rows
        lost = np.setdiff1d(labels, labels[~held[found.groups]])
        held[found.groups[np.isin(labels, lost)]] = False
    return np.where(held[found.groups], "validation", "train")
