"""Targets that list the labels of each row: ``["red", "round"]``, or the string ``"red;round"``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from descend.data.messages import listed
from descend.data.parsing import is_missing
from descend.data.source import Array, Source
from descend.errors import DataError
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "are_label_lists",
    "divided",
    "indicators",
    "labels_of_column",
    "separator_hint",
]

_FEW_ROWS = 20
"""There may be as many distinct labels as rows, and in any case this number."""
_SEPARATORS = (";", "|", ",")
"""Separators that are suggested; a blank or a slash also occurs within the names of classes."""

Lists = Sequence[Sequence[object] | None]


def are_label_lists(values: object, *, known: bool = False) -> bool:
    """Return whether Python values list the labels of each row, rather than the values of several targets.

    Rows of numbers with equal lengths are several targets; so are rows of strings with equal lengths, unless they
    contain more than two distinct strings and none twice in a row.

    Args:
        values: the targets.
        known: whether the network was trained on lists of labels, so that any rows of strings are such lists.

    >>> are_label_lists([["a", "b"], ["b"], []]), are_label_lists([[0, 1], [1, 1]]), are_label_lists([{1}, {2}])
    (True, False, True)
    >>> are_label_lists([["yes", "no"], ["no", "no"]]), are_label_lists([["a", "b"], ["b", "c"]])
    (False, True)
    """
    if not isinstance(values, list | tuple):
        return False
    rows = [value for value in values if not is_missing(value)]
    if not rows or not all(isinstance(row, list | tuple | set | frozenset) for row in rows):
        return False
    items = list(chain.from_iterable(rows))
    if not all(isinstance(item, str | int | np.integer | np.str_) for item in items):
        return False
    if not items or any(isinstance(row, set | frozenset) for row in rows):
        return known or bool(items)
    if len({len(row) for row in rows}) > 1 or (known and isinstance(items[0], str)):
        return True
    repeated = any(len(set(row)) < len(row) for row in rows)
    return len(rows[0]) > 1 and not repeated and len(set(items)) > 2 and isinstance(items[0], str)


def indicators(rows: Lists, name: str) -> tuple[Array, tuple[str, ...]]:
    """Return a column of 0 and 1 for each label, and the names of the labels in ascending order.

    Args:
        rows: the labels of each row; None where the target is missing, which None in each column then represents.
        name: name of the target, for messages.

    >>> columns, names = indicators([["b", "a"], ["b"], []], "tags")
    >>> columns.tolist(), names
    ([[1, 1], [0, 1], [0, 0]], ('a', 'b'))

    Raises:
        DataError: there are more labels than rows.
    """
    named = [None if row is None else {_name(label) for label in row} for row in rows]
    labels = sorted(set(chain.from_iterable(row for row in named if row is not None)), key=_order)
    if len(labels) > max(_FEW_ROWS, len(rows)):
        raise DataError(
            f"target {name!r}: {len(labels):,} distinct labels in {len(rows):,} rows ({listed(labels, 3)}); each label "
            "needs several rows"
        )
    place = {label: at for at, label in enumerate(labels)}
    columns: Array = np.zeros((len(rows), len(labels)), dtype=np.int64)
    for at, row in enumerate(named):
        columns[at, [place[label] for label in row or ()]] = 1
    if None in named:
        columns = columns.astype(object)
        columns[[at for at, row in enumerate(named) if row is None]] = None
    return columns, tuple(labels)


def _name(label: object) -> str:
    if isinstance(label, float) and label.is_integer():
        return str(int(label))
    return str(label).strip()


def _order(name: str) -> tuple[bool, int, str]:
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)


def labels_of_column(series: pl.Series) -> tuple[Array, tuple[str, ...]] | None:
    """Return a polars column of lists as columns of 0 and 1 and their names; None for a column of single values.

    Numbers in lists of equal length are the values of several targets, which are returned as they are.

    >>> import polars as pl
    >>> labels_of_column(pl.Series("tags", [["b"], ["a", "b"]]))[1]
    ('a', 'b')
    >>> labels_of_column(pl.Series("y", [[0.5, 1.5], [0.25, 2.0]]))[1]
    ('y0', 'y1')

    Raises:
        DataError: the lists contain other values than strings and numbers.
    """
    import polars as pl

    if not isinstance(series.dtype, pl.List | pl.Array):
        return None
    inner = series.dtype.inner
    rows = series.to_list()
    given = [row for row in rows if row is not None]
    if inner.is_numeric() and given and {len(row) for row in given} == {len(given[0])} and len(given[0]) > 1:
        width = len(given[0])
        columns = np.array([[None] * width if row is None else row for row in rows], dtype=object)
        typed = columns if len(given) < len(rows) else np.array(rows)
        return typed, tuple(f"{series.name}{at}" for at in range(width))
    if not (inner.is_numeric() or inner in (pl.String, pl.Categorical, pl.Enum, pl.Null)):
        raise DataError(
            f"target {series.name!r}: expected a number, a label, or a list of labels in each row, got {series.dtype}"
        )
    kept = [None if row is None else [item for item in row if item is not None] for row in rows]
    return indicators(kept, series.name)


def divided(source: Source, separator: str, missing: Iterable[str] = ()) -> Source:
    """Return a source whose targets are strings of several labels with a column of 0 and 1 for each label.

    A row with an empty string, or an empty cell of a table, has no label.

    Args:
        source: the source; one whose target is not one column of strings is returned unchanged.
        separator: the separator of the labels, or ``none``.
        missing: strings that stand for a missing value.
    """
    targets = source.targets
    if separator == "none" or targets is None or source.label_column or targets.ndim != 1:
        return source
    values = targets.tolist()
    if not all(isinstance(value, str) or is_missing(value) for value in values):
        return source
    absent = set(missing) - {""}
    name = source.target_names[0] if source.target_names else "y"
    rows = [
        None if isinstance(value, str) and value.strip() in absent else _divide(value, separator)
        for value in values
    ]
    columns, names = indicators(rows, name)
    return dataclasses.replace(source, targets=columns, target_names=names, label_column=name)


def _divide(value: object, separator: str) -> list[str]:
    parts = value.split(separator) if isinstance(value, str) else []
    return [part.strip() for part in parts if part.strip()]


def separator_hint(values: Sequence[object]) -> str:
    """Return a hint if distinct class labels look like several labels each, such as ``a;b``; otherwise nothing.

    Labels do if at least two contain the same separator, the parts are fewer than the labels or as many, and one of them
    occurs in several labels.

    >>> separator_hint(["a", "a;b", "b;c"])
    "'a;b' is one class; if it lists several labels: {'data.label_separator': ';'}"
    >>> separator_hint(["Smith, John", "Doe, Jane", "New York"])
    ''
    """
    strings = [value for value in values if isinstance(value, str)]
    for separator in _SEPARATORS:
        several = [value for value in strings if len(_divide(value, separator)) > 1]
        if len(several) < 2:
            continue
        parts = [set(_divide(value, separator)) for value in strings]
        distinct = set().union(*parts)
        if len(distinct) <= len(strings) and sum(map(len, parts)) > len(distinct):
            return f"{several[0]!r} is one class; if it lists several labels: {setting('data.label_separator', separator)}"
    return ""
