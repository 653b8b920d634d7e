"""Split of the rows into training, validation and test parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descend.data.messages import listed, rows_hold
from descend.data.parsing import is_missing
from descend.data.source import PARTS, Array
from descend.errors import DataError
from descend.interface import key_name, setting
from descend.rng import key

__all__ = ["PART_WORDS", "Split", "group_names", "is_random", "part_names", "split"]

PART_WORDS = {
    "train": "train", "training": "train", "fit": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "holdout": "test",
}  # fmt: skip
"""Names of the parts in a given split."""


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of each part, ascending, int64, and remarks for the user."""

    train: Array
    validation: Array
    test: Array
    notes: tuple[str, ...] = ()


def part_names(values: Sequence[object] | Array, where: str) -> Array:
    """Convert the names in a given split to "train", "validation" and "test".

    >>> part_names(["Train", "val", "test"], "column 'part'").tolist()
    ['train', 'validation', 'test']

    Raises:
        DataError: a name is unknown, or there is no training row.
    """
    names = [str(value).strip().lower() for value in values]
    unknown = [row for row, name in enumerate(names) if name not in PART_WORDS]
    if unknown:
        raise DataError(
            f"{where}: expected 'train', 'validation' or 'test' in each row, "
            f"but {rows_hold(unknown)} "
            f"{listed(dict.fromkeys(str(values[row]) for row in unknown), 3)}"
        )
    parts = np.array([PART_WORDS[name] for name in names], dtype="<U10")
    if not (parts == "train").any():
        raise DataError(f"{where}: no row is marked 'train'; at least one training row is needed")
    return parts


def group_names(groups: Array) -> tuple[Array, int]:
    """Return the name of each row's group, and the number of rows without a group.

    A row without a group is a group of its own.

    >>> names, without = group_names(np.array(["a", None, "a", None], dtype=object))
    >>> len(set(names.tolist())), without
    (3, 2)
    """
    absent = [row for row, value in enumerate(groups.tolist()) if is_missing(value)]
    names = groups.astype(str)
    if absent:
        names = names.astype(object)
        names[absent] = [f"\0{row}" for row in absent]  # no name in a file begins with this character
        names = names.astype(str)
    return names, len(absent)


def is_random(given: Array | None, validation: float, test: float) -> bool:
    """Return whether a split depends on the seed, with the arguments of :func:`split`.

    >>> is_random(None, 0.2, 0.0), is_random(np.array(["train", "validation"]), 0.2, 0.2)
    (True, False)
    """
    if given is None:
        return validation > 0 or test > 0
    return validation > 0 and not bool((given == "validation").any())


def split(
    n: int,
    labels: Array | None,
    *,
    task: str,
    validation: float,
    test: float,
    given: Array | None = None,
    seed: int = 0,
    groups: Array | None = None,
) -> Split:
    """Divide n rows into training, validation and test rows.

    Rows are shuffled. For classification every class is divided in the same proportion (stratified), up
    to one row, and a class keeps at least one training row. The size of a part is its share of n, rounded, but at
    least 1.

    Args:
        n: number of rows.
        labels: class codes, shape (n,); None for regression.
        task: the task; only ``binary`` and ``multiclass`` are stratified.
        validation: share of the rows, in [0, 1).
        test: share of the rows, in [0, 1).
        given: "train", "validation" or "test" for each row. If it has no validation part, validation rows are
            taken from the training rows (as a share of these); a missing test part stays empty.
        seed: the run's seed.
        groups: a label for each row; rows with equal labels stay in one part, and are not stratified.

    >>> parts = split(10, np.array([0] * 5 + [1] * 5), task="binary", validation=0.2, test=0.2)
    >>> len(parts.train), len(parts.validation), len(parts.test)
    (6, 2, 2)

    Raises:
        DataError: there are fewer rows (or groups) than parts.
    """
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise DataError(
            f"{key_name('data.validation')} = {validation:g} and data.test = {test:g} leave no training rows; "
            "both must be 0 or more and their sum below 1"
        )
    random = np.random.default_rng(key(seed, "split"))
    if given is not None:
        return _given(given, labels, task, validation, random, groups)
    rows = np.arange(n)
    sizes = _sizes(n, validation, test)
    return _divide(rows, labels, task, sizes, random, groups)


def _sizes(n: int, validation: float, test: float) -> tuple[int, int]:
    sizes = [max(1, round(n * share)) if share > 0 else 0 for share in (validation, test)]
    while sum(sizes) >= n and max(sizes) > 1:  # keep at least one training row
        sizes[int(np.argmax(sizes))] -= 1
    if sum(sizes) >= n:
        named = [part for part, size in zip(PARTS[1:], sizes, strict=True) if size]
        parts = f"training, {named[0]} and {named[1]}" if len(named) == 2 else f"training and {named[0]}"
        keys = " or ".join(setting(f"data.{part}", 0) for part in reversed(named))
        raise DataError(
            f"{n} row{' is' if n == 1 else 's are'} too few for {parts} parts; add rows, or omit a part: {keys}"
        )
    return sizes[0], sizes[1]


def _given(given: Array, labels: Array | None, task: str, validation: float,
           random: np.random.Generator, groups: Array | None) -> Split:  # fmt: skip
    parts = {part: np.flatnonzero(given == part) for part in PARTS}
    notes: tuple[str, ...] = ("the split given with the data is used",)
    if len(parts["validation"]) == 0 and validation > 0:
        rows = parts["train"]
        sizes = (_sizes(len(rows), validation, 0.0)[0], 0)
        own_labels, own_groups = (None if one is None else one[rows] for one in (labels, groups))
        divided = _divide(rows, own_labels, task, sizes, random, own_groups)
        parts["train"], parts["validation"] = divided.train, divided.validation
        notes += ("validation rows are taken from the given training rows", *divided.notes)
    return Split(parts["train"], parts["validation"], parts["test"], notes)


def _divide(rows: Array, labels: Array | None, task: str, sizes: tuple[int, int],
            random: np.random.Generator, groups: Array | None) -> Split:  # fmt: skip
    shuffled = random.permutation(len(rows))
    notes: list[str] = []
    if groups is not None:
        part = _by_group(groups, shuffled, sizes)
        notes.append("rows of one group stay in one part")
    elif labels is not None and task in ("binary", "multiclass"):
        part = _stratified(labels, shuffled, sizes)
    else:
        part = np.zeros(len(rows), dtype=np.int8)
        part[shuffled[: sizes[0]]] = 1
        part[shuffled[sizes[0] : sum(sizes)]] = 2
    return Split(rows[part == 0], rows[part == 1], rows[part == 2], tuple(notes))


def _stratified(labels: Array, shuffled: Array, sizes: tuple[int, int]) -> Array:
    counts = np.bincount(labels)
    quotas = np.zeros((2, len(counts)), dtype=np.int64)
    for held_out in (0, 1):
        quotas[held_out] = _quotas(counts, quotas.sum(axis=0), sizes[held_out], len(labels))
    # Grouped by class, shuffled within each class.
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    starts = np.cumsum(counts) - counts
    position = np.arange(len(labels)) - np.repeat(starts, counts)
    first, second = np.repeat(quotas[0], counts), np.repeat(quotas.sum(axis=0), counts)
    part = np.empty(len(labels), dtype=np.int8)
    part[order] = np.where(position < first, 1, np.where(position < second, 2, 0))
    return part


def _quotas(counts: Array, used: Array, size: int, n: int) -> Array:
    """Divide ``size`` rows among the classes proportionally, by largest remainders; each class keeps a row."""
    ideal = counts * (size / n)
    quota: Array = np.minimum(np.floor(ideal).astype(np.int64), np.maximum(counts - used - 1, 0))
    while quota.sum() < size:
        room = counts - used - quota - 1 > 0
        if not room.any():  # every class has one training row left: use these
            room = counts - used - quota > 0
        remainder = np.where(room, ideal - quota, -np.inf)
        need = int(size - quota.sum())
        best = np.argsort(-remainder, kind="stable")[: min(need, int(room.sum()))]
        quota[best] += 1
    return quota


def _by_group(groups: Array, shuffled: Array, sizes: tuple[int, int]) -> Array:
    _, first, codes = np.unique(groups[shuffled], return_index=True, return_inverse=True)
    needed = 1 + sum(size > 0 for size in sizes)
    if len(first) < needed:
        raise DataError(f"data.groups has {len(first)} groups; {needed} parts need at least one group each")
    counts = np.bincount(codes)
    order = np.argsort(first, kind="stable")  # groups in the shuffled order of their first rows
    own = np.zeros(len(first), dtype=np.int8)
    left = len(order)
    at = 0
    for code, size in ((1, sizes[0]), (2, sizes[1])):
        after = (2 if sizes[1] else 1) if code == 1 else 1  # groups reserved for the later parts
        filled = 0
        while size and at < left - after and (filled == 0 or filled + counts[order[at]] / 2 <= size):
            own[order[at]] = code
            filled += counts[order[at]]
            at += 1
    part = np.empty(len(groups), dtype=np.int8)
    part[shuffled] = own[codes]
    return part
