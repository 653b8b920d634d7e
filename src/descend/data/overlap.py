"""Rows that occur in more than one part of data that come with their parts."""

from __future__ import annotations

import numpy as np
import polars as pl

from descend.data.preparation import Part, Prepared
from descend.data.source import PARTS, Array, Source
from descend.data.task import target_numbers

__all__ = ["overlap_notes"]

_TOLERATED = 0.05
"""Fraction of the rows of a part that may coincide with rows of another by chance, in addition to the repetitions within
that other part: rows of few distinct values coincide often."""
_COMPARED = 20_000
"""Number of rows of a part that are looked up; of a larger part, rows at equal distances."""
_SAMPLED = 1_000
"""Number of rows of a part that show to how many digits its numbers are rounded."""
_NEIGHBORS = 8
"""Number of candidates for each row."""
_PROJECTIONS = 6
"""Number of projections of a row by which candidates are found."""
_LEAST = 1e-6
"""Largest difference of equal encoded entries, in standard deviations, in addition to that of single precision."""
_SINGLE = 2.0**-23
"""Relative error of a number in single precision, as a file or an array may store it."""
_DIGITS = 6
"""Largest number of decimals, or of significant digits, that is recognized as rounding."""


def overlap_notes(prepared: Prepared, source: Source | None = None) -> tuple[str, ...]:
    """Return a note for the validation and the test rows, if some of them are also rows of an earlier part.

    Rows are the same if their inputs and targets are equal, apart from the rounding of single precision and, where the
    numbers of a column have fewer digits in one part than in the other, from the rounding to these digits. The score
    on such rows does not tell how well a network predicts new ones. Rows coincide by chance in tables of few distinct
    values; the fraction of the earlier rows that are the same as another earlier row, by the same rule, is
    therefore tolerated. Rows of a torch ``Dataset`` and rows that stay on disk are not compared.

    Candidates are the nearest of the earlier rows in a few random projections, so that the cost is O(n log n).

    Args:
        prepared: the parts.
        source: the data before encoding, whose numbers show to how many digits they are rounded. Without them, only
            the rounding of single precision is taken into account.

    >>> from descend.data import DataSettings, prepare, read
    >>> pair = ([[0.1], [0.7], [0.2], [0.9]], [1.0, 2.0, 3.0, 4.0])
    >>> source = read({"train": pair, "test": pair})
    >>> overlap_notes(prepare(source, DataSettings(validation=0)))[0][:61]
    'the test data have the same rows as the training data: 4 of 4'
    """
    rows = {name: _rows(getattr(prepared, name)) for name in PARTS}
    notes = []
    for part, others in (("validation", ("train",)), ("test", ("train", "validation"))):
        given = [other for other in others if len(rows[other])]
        if not given or not len(rows[part]):
            continue
        numbers = [getattr(prepared, other).rows for other in given]
        tolerance, rounded = _tolerances(
            prepared, source, np.concatenate(numbers), getattr(prepared, part).rows
        )
        earlier = np.concatenate([rows[other] for other in given])
        own = _thinned(rows[part])
        known = _Known(earlier, tolerance)
        matches = known.find(own) >= 0
        shared = int(matches.sum())
        if shared <= _TOLERATED * len(own) or shared <= (known.repeated() + _TOLERATED) * len(own):
            continue
        containing = [
            other for other in given if (_Known(rows[other], tolerance).find(own[matches]) >= 0).any()
        ]
        named = " and ".join(other.replace("train", "training") for other in containing)
        compared = "" if len(own) == len(rows[part]) else " compared ones"
        notes.append(
            f"the {part} data have the same rows as the {named} data: {shared:,} of {len(own):,}{compared} equal one "
            f"of them in inputs and target{', after rounding to the same number of digits' if rounded else ''}, so the "
            f"{part} score does not measure how well new rows are predicted"
        )
    return tuple(notes)


def _rows(part: Part) -> Array:
    """Return the encoded inputs and the targets of each row, float32 (n, d)."""
    if part.inputs is None or part.stored or len(part) == 0:
        return np.empty((0, 0), dtype=np.float32)
    inputs, targets = (each.numpy().reshape(len(part), -1) for each in (part.inputs, part.targets))
    joined: Array = np.concatenate([inputs, targets.astype(np.float32)], axis=1)
    return joined


def _thinned(rows: Array, most: int = _COMPARED) -> Array:
    """Return at most the given number of rows, at equal distances."""
    return rows[:: max(1, -(-len(rows) // most))]


class _Known:
    """The distinct rows of earlier parts, and a search for those that are the same as given ones.

    Args:
        rows: the earlier rows, (n, d).
        tolerance: the largest difference of equal entries, (d,).
    """

    def __init__(self, rows: Array, tolerance: Array) -> None:
        self.tolerance, self.count = tolerance, len(rows)
        _, self.place, self.repetitions = np.unique(_hashes(rows), return_index=True, return_counts=True)
        self.rows = rows[self.place]
        columns = len(tolerance)
        if columns <= _PROJECTIONS:
            signs, self.radius = np.eye(columns), 1.0
        else:
            # Differences of equal rows are at most 1 in each column; their signed sum is seldom larger than this.
            signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(columns, _PROJECTIONS))
            self.radius = min(columns, 1 + 6 * np.sqrt(columns / 3))
        self.directions = signs / tolerance[:, None]
        from scipy.spatial import cKDTree  # only where parts are compared: importing it takes a while

        self.tree = cKDTree(self.rows @ self.directions, balanced_tree=False, compact_nodes=False)

    def find(self, rows: Array, *, others: bool = False) -> Array:
        """Return the position of an earlier row that is the same as each row, or -1.

        Args:
            rows: the rows to look up, (m, d).
            others: whether an earlier row with exactly equal entries does not count.
        """
        count = min(_NEIGHBORS + int(others), len(self.rows))
        _, found = self.tree.query(
            rows @ self.directions, k=count, p=np.inf, distance_upper_bound=1.001 * self.radius
        )
        result = np.full(len(rows), -1)
        for candidate in found.reshape(len(rows), count).T:
            chosen = np.flatnonzero((result < 0) & (candidate < len(self.rows)))
            near, own = self.rows[candidate[chosen]], rows[chosen]
            same = (np.abs(near - own) <= self.tolerance).all(axis=1)
            if others:
                same &= (near != own).any(axis=1)
            result[chosen[same]] = self.place[candidate[chosen[same]]]
        return result

    def repeated(self) -> float:
        """Return the fraction of the earlier rows that are the same as another one."""
        single = self.repetitions == 1
        if not single.any():
            return 1.0
        near = self.find(_thinned(self.rows[single]), others=True) >= 0
        return float(1 - single.sum() / self.count * (1 - near.mean()))


def _hashes(rows: Array) -> Array:
    """Return a hash of the bits of each row, uint64 (n,)."""
    words = np.ascontiguousarray(rows + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    random = np.random.default_rng(0).integers(2**63, size=words.shape[1], dtype=np.uint64)
    factors: Array = np.bitwise_or(random << np.uint64(1), np.uint64(1))
    hashes = np.zeros(len(words), dtype=np.uint64)
    for word, factor in zip(words.T, factors, strict=True):
        mixed = (hashes ^ word) * factor
        hashes = mixed ^ (mixed >> np.uint64(32))
    return hashes


def _tolerances(prepared: Prepared, source: Source | None, earlier: Array, own: Array) -> tuple[Array, bool]:
    """Return the largest difference of equal entries of encoded rows, and whether the numbers of a part are rounded.

    Args:
        prepared: the parts.
        source: the data before encoding, or None.
        earlier: row numbers of the earlier parts.
        own: row numbers of the part that is compared with them.
    """
    schema, preprocess, inputs = prepared.schema, prepared.preprocess, prepared.train.inputs
    width = 0 if inputs is None else inputs[0].numel()
    targets = prepared.train.targets
    errors, rounded = np.zeros(width + (1 if targets.dim() == 1 else targets[0].numel())), False
    if source is not None and source.frame is not None:
        used = schema.used
        for at, (owner, is_number) in enumerate(zip(preprocess.columns, preprocess.numbers, strict=True)):
            column = used[owner]
            series = source.frame[column.name]
            if is_number and series.dtype.is_numeric():
                values = series.cast(pl.Float64, strict=False).to_numpy()
                error, is_rounded = _rounding(values[earlier], values[own])
                errors[at] = error / column.scale
                rounded |= is_rounded
        if schema.rotation is not None:
            turn = preprocess.rows.get_buffer("turn").abs().numpy()
            errors[: len(turn)] = errors[: len(turn)] @ turn
    if source is not None and source.targets is not None and not schema.classes:
        numbers = target_numbers(source.targets, schema.decimal).reshape(len(source.targets), -1)
        for at, (values, scale) in enumerate(zip(numbers.T, schema.target_scale, strict=True)):
            error, is_rounded = _rounding(values[earlier], values[own])
            errors[width + at] = error / scale
            rounded |= is_rounded
    return errors + _LEAST, rounded


def _rounding(first: Array, second: Array) -> tuple[float, bool]:
    """Return the largest difference of equal numbers in two columns, and whether one of them has fewer digits.

    >>> exact = np.array([0.12345678, 0.87654321, 0.55555555])
    >>> error, is_rounded = _rounding(exact, exact.round(3))
    >>> round(error, 6), is_rounded
    (0.0005, True)
    >>> _rounding(exact, exact)[1], _rounding(exact.round(3), exact.round(3))[1]
    (False, False)
    """
    first, second = (
        sample[np.isfinite(sample)] for sample in (_thinned(first, _SAMPLED), _thinned(second, _SAMPLED))
    )
    if not len(first) or not len(second):
        return 0.0, False
    single = float(max(np.abs(first).max(), np.abs(second).max())) * _SINGLE
    finer, coarser = sorted((_unit(first), _unit(second)))
    return (single + coarser / 2, True) if coarser > 5 * finer else (single, False)


def _unit(values: Array) -> float:
    """Return the unit to which numbers are rounded, 0 if there is none: of their decimals, or of the significant digits.

    >>> _unit(np.array([1.25, 17.53])), _unit(np.array([1250.0, 0.0125, 17.4])), _unit(np.array([0.1234561234]))
    (0.01, 12.5, 0.0)
    """
    largest = float(np.abs(values).max())
    if largest == 0:
        return 1.0
    decimals, significant = _decimals(values), _significant(values)
    if significant <= _DIGITS and (
        decimals > _DIGITS or significant < np.floor(np.log10(largest)) + decimals
    ):
        return largest * 10.0**-significant
    return 10.0**-decimals if decimals <= _DIGITS else 0.0


def _decimals(values: Array) -> int:
    """Return the number of decimals; one more than the largest that is recognized if there are more."""
    slack = np.abs(values) * _SINGLE + 1e-12
    fitting = (at for at in range(_DIGITS + 1) if (np.abs(values - values.round(at)) <= slack).all())
    return next(fitting, _DIGITS + 1)


def _significant(values: Array) -> int:
    """Return the number of significant digits minus 1; one more than the largest that is recognized if there are more."""
    values = values[values != 0]
    if not len(values):
        return 0
    return _decimals(values / 10.0 ** np.floor(np.log10(np.abs(values))))
