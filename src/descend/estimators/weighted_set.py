"""Rows as a weighted set: the meaning of a row's weight.

An estimator learns from the weighted set of its rows only. A weight of 2 is equivalent to giving the row twice, a
weight of 0 to leaving the row out, and the order of the rows has no effect. This holds by construction: equal rows are
merged into one with the sum of their weights, rows with weight 0 are dropped, and the remaining rows are sorted by
their content. Everything after that (the split, the scaling, the initial weights, the order of the batches) is a
function of this list and of the seed, so that training gives bit-identical results for equivalent inputs.

Merging also prevents copies of a row from being in both the training and the validation part.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from descend.data.parsing import tidy
from descend.data.settings import MISSING, Missing
from descend.data.source import Array, Source, take_rows
from descend.data.split import split
from descend.process import in_fork

__all__ = ["WeightedSet", "has_weight", "select", "split_by_input", "weighted_set"]

NEGLIGIBLE = 1e-12
"""A weight below this fraction of the largest is treated as 0."""

_BLOCK = 8192  # rows hashed at a time


@dataclass(frozen=True, eq=False)
class WeightedSet:
    """The distinct rows of a source with their weights.

    Args:
        rows: row number in the source of one representative of each distinct row, ordered by content, (m,).
        weights: weight of each distinct row, the smallest being 1, (m,); None if all are equal.
        groups: group of each distinct row; rows in a group have the same inputs and different targets, (m,).
    """

    rows: Array
    weights: Array | None
    groups: Array

    @property
    def distinct_inputs(self) -> int:
        """Number of distinct inputs."""
        return int(self.groups.max()) + 1


@in_fork
def weighted_set(
    source: Source, codes: Array, weights: Array | None = None, missing: Missing = MISSING
) -> WeightedSet:
    """Return the distinct rows of a source with their weights.

    Args:
        source: the rows.
        codes: targets as numbers, (n,) or (n, T).
        weights: weights of the rows, 0 or more and not all 0. Default None: 1 for each row.
        missing: strings that stand for a missing value.

    >>> from descend.data.arrays import from_arrays
    >>> y = np.array([0, 1, 0])
    >>> repeated = weighted_set(from_arrays([[1.0], [2.0], [1.0]], y), y)
    >>> weighted = weighted_set(from_arrays([[2.0], [1.0]], y[1::-1]), y[1::-1], np.array([0.5, 1.0]))
    >>> sorted(repeated.rows.tolist()), repeated.weights.tolist() == weighted.weights.tolist()
    ([0, 1], True)
    """
    positive = np.ones(len(codes)) if weights is None else weights
    kept = np.flatnonzero(has_weight(positive))
    hashes, inputs = _digests(source, codes, missing)
    # Equal rows are sorted by weight, so that the rounding of their sum does not depend on the order of the rows.
    kept = kept[np.lexsort((positive[kept], hashes[kept, 1], hashes[kept, 0], inputs[kept]))]
    ordered = hashes[kept]
    first = np.flatnonzero(np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1)))
    sums = np.add.reduceat(positive[kept], first)
    rows = kept[first]
    sums = sums / sums.min()
    _, groups = np.unique(inputs[rows], return_inverse=True)
    return WeightedSet(rows, None if (sums == 1.0).all() else sums, groups)


def has_weight(weights: Array) -> Array:
    """Return which rows have a non-negligible weight, (n,) bool.

    >>> has_weight(np.array([0.0, 1.0, 1e-15])).tolist()
    [False, True, False]
    """
    positive: Array = weights > NEGLIGIBLE * weights.max()
    return positive


def _digests(source: Source, codes: Array, missing: Missing) -> tuple[Array, Array]:
    """Return 128-bit hashes of inputs and target, uint64 (n, 2), and 64-bit hashes of the inputs, uint64 (n,)."""
    combined, inputs = [], []
    targets = np.ascontiguousarray(codes, dtype=np.float64).reshape(len(codes), -1) + 0.0
    row_number = 0
    for block in _numbers(source, missing):
        values = np.ascontiguousarray(block, dtype=np.float64) + 0.0  # -0.0 becomes 0.0
        values[np.isnan(values)] = np.nan  # one bit pattern for NaN
        for row in values:
            digest = blake2b(row.tobytes(), digest_size=16)
            inputs.append(digest.digest())
            digest.update(targets[row_number].tobytes())
            combined.append(digest.digest())
            row_number += 1
    hashes = np.frombuffer(b"".join(combined), dtype="<u8").reshape(-1, 2)
    return hashes, np.frombuffer(b"".join(inputs), dtype="<u8")[::2]


def _numbers(source: Source, missing: Missing) -> Iterator[Array]:
    """Yield the inputs as numbers, (b, d), block by block; strings become their rank in their column."""
    if source.frame is None:
        assert source.inputs is not None
        for start in range(0, len(source.inputs), _BLOCK):
            block = source.inputs[start : start + _BLOCK]
            yield block.reshape(len(block), -1)
        return
    import polars as pl

    columns: list[pl.Series] = []
    for series in source.frame:
        values = series if series.dtype.is_float() else tidy(series, missing)
        if values.dtype in (pl.String, pl.Int128):
            values = values.rank("dense")
        elif values.dtype == pl.Datetime:
            values = values.cast(pl.Int64)
        columns.append(values.cast(pl.Float64, strict=False))
    numbers = [column.to_numpy() for column in columns]
    for start in range(0, len(source), _BLOCK):
        yield np.stack([column[start : start + _BLOCK] for column in numbers], axis=1)


@in_fork
def select(source: Source, unique: WeightedSet, split: Array | None = None) -> Source:
    """Return a source of the distinct rows with their weights."""
    rows = unique.rows
    return dataclasses.replace(
        source,
        targets=None if source.targets is None else source.targets[rows],
        frame=None if source.frame is None else take_rows(source.frame, rows),
        inputs=None if source.inputs is None else source.inputs[rows],
        weights=unique.weights,
        split=split,
    )


def split_by_input(unique: WeightedSet, labels: Array | None, *, share: float, seed: int) -> Array | None:
    """Return the validation split if some inputs occur with several targets, None if none do.

    Rows with the same input stay in one part. Otherwise training would see only some of the targets of an input,
    and estimate wrong probabilities.

    Args:
        unique: the distinct rows.
        labels: their class codes, for stratification; None for regression.
        share: fraction of the inputs in the validation part.
        seed: seed of the split.

    Returns:
        "train" or "validation" for each row, (m,).
    """
    if not share or unique.distinct_inputs == len(unique.rows):
        return None
    _, first = np.unique(unique.groups, return_index=True)
    first_labels = None if labels is None else labels[first]
    task = "regression" if labels is None else "multiclass"
    parts = split(len(first), first_labels, task=task, validation=share, test=0.0, seed=seed)
    held = np.zeros(len(first), dtype=bool)
    held[parts.validation] = True
    if labels is not None:  # stratification by the first label of an input can hold out all rows of a class
        lost = np.setdiff1d(labels, labels[~held[unique.groups]])
        held[unique.groups[np.isin(labels, lost)]] = False
    return np.where(held[unique.groups], "validation", "train")
