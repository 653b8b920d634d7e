"""Cells of a text file as numbers, booleans and strings.

A text file has no types: ``1001`` and ``01001`` are strings until a column is known to hold numbers. All cells are
therefore read as strings, and each column is converted as a whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from descend.data.messages import listed
from descend.data.number_format import (
    Mark,
    find_decimal,
    has_codes,
    integers,
    parse,
    written_otherwise,
)
from descend.data.settings import MISSING, DataSettings, Decimal, Missing, missing_in
from descend.data.streaming import StoredTable
from descend.errors import DataError
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Typed", "absent_strings", "converted", "converted_columns", "format_note", "gap_setting", "refuse_other_mark",
           "stripped", "table_decimal", "typed"]  # fmt: skip

_TRUE, _FALSE = ["true", "True", "TRUE"], ["false", "False", "FALSE"]


@dataclass(frozen=True)
class Typed:
    """Columns with types, the decimal mark of their numbers (``auto`` if no cell contains one), and notes."""

    frame: pl.DataFrame
    decimal: Decimal
    notes: tuple[str, ...] = ()


def typed(
    cells: pl.DataFrame,
    *,
    missing: Missing = MISSING,
    strings: Collection[str] = (),
    labels: Collection[str] = (),
    decimal: Decimal = "auto",
    prior: Mark | None = "point",
    where: str = "",
) -> Typed:
    """Convert columns of strings to numbers and booleans where all cells allow it.

    Digits with leading zeros and numbers with a unit stay strings.

    Args:
        cells: the columns, all strings.
        missing: strings that stand for a missing value; they become nulls.
        strings: columns that stay strings.
        labels: columns that keep the strings for missing values, unless they are converted.
        decimal: the decimal mark, or ``auto``.
        prior: the decimal mark to expect where cells fit both, see :func:`~descend.data.number_format.find_decimal`.
        where: the file, for messages.

    >>> import polars as pl
    >>> result = typed(pl.DataFrame({"price": ["1.234,50", "1.250"], "zip": ["01001", "20095"]}))
    >>> result.decimal, result.frame["price"].to_list(), result.frame["zip"].to_list()
    ('comma', [1234.5, 1250.0], ['01001', '20095'])

    Raises:
        DataError: the columns have different decimal marks, or can be read either way.
    """
    import polars as pl

    by_name = {one.name: stripped(one, missing) for one in cells if one.name not in strings}
    mark: Mark | None
    if decimal == "auto":
        mark = find_decimal(by_name.values(), where=where, prior=prior)
    else:
        mark = decimal
        refuse_other_mark(by_name.values(), mark, where)
    columns = []
    notes = ["numbers are read with decimal commas"] if mark == "comma" else []
    for one in cells:
        as_it_is = one if one.name in labels else _with_nulls(one, missing)
        if one.name in strings:
            columns.append(as_it_is)
            continue
        values, note = converted(by_name[one.name], mark or "point")
        columns.append(as_it_is if values is None else values)
        notes += [f"column {one.name!r}: {note}"] if note else []
    return Typed(pl.DataFrame(columns), mark or "auto", tuple(notes))


def stripped(series: pl.Series, missing: Missing) -> pl.Series:
    """Return strings without surrounding spaces, with nulls for missing values."""
    cells = series.str.strip_chars()
    absent = cells.is_in(list(missing_in(missing, series.name))) | (cells == "")
    return cells.set(absent, None) if absent.any() else cells


def _with_nulls(series: pl.Series, missing: Missing) -> pl.Series:
    return series.set(series.is_in(list(missing_in(missing, series.name))), None)


def converted(cells: pl.Series, mark: Mark, *, units: bool = False) -> tuple[pl.Series | None, str]:
    """Return the column as numbers or booleans and a note, or None if it contains other strings.

    Args:
        cells: stripped strings, with nulls for missing values.
        mark: the decimal mark.
        units: whether to convert numbers with a unit too; their unit is lost.
    """
    if cells.null_count() == len(cells):
        return None, ""
    words = cells.is_in([*_TRUE, *_FALSE])
    if words.any() and words.fill_null(True).all():
        return cells.is_in(_TRUE).set(cells.is_null(), None), ""
    if has_codes(cells):
        return None, ""
    numbers, invalid, unit = parse(cells, mark)
    if invalid.any() or numbers.is_infinite().any() or (unit and not units):
        return None, ""
    exact = integers(cells, mark) if (numbers == numbers.round()).all() else None
    if exact is None and cells.str.contains(r"^[+-]?[0-9]{39,}$").any():  # integers beyond 128 bits
        return None, ""
    result = numbers if exact is None else exact
    return result, format_note(cells, result, mark, unit)


def converted_columns(
    columns: Iterable[pl.Series], decimal: Decimal, missing: Missing
) -> tuple[list[pl.Series], tuple[str, ...]]:
    """Convert columns of strings to numbers, also with a unit, or booleans, if all of a column allow it.

    Args:
        columns: columns of a text file; others than strings stay as they are.
        decimal: the decimal mark; a point for ``auto``.
        missing: strings that stand for a missing value.

    Returns: the columns and notes for the user.
    """
    import polars as pl

    mark: Mark = "comma" if decimal == "comma" else "point"
    result, notes = [], []
    for one in columns:
        values, note = None, ""
        if one.dtype == pl.String:
            values, note = converted(stripped(one, missing), mark, units=True)
        result.append(one if values is None else values)
        notes += [f"column {one.name!r}: {note}"] if note else []
    return result, tuple(notes)


def absent_strings(columns: Sequence[pl.Series], missing: Missing) -> str:
    """Return a remark on the strings of some columns that stand for a missing value, or an empty string."""
    import polars as pl

    found: dict[str, None] = {}
    for one in columns:
        if one.dtype == pl.String:
            cells = one.drop_nulls().str.strip_chars()
            present = cells.filter(cells.is_in([word for word in missing_in(missing, one.name) if word]))
            found |= dict.fromkeys(present.unique(maintain_order=True).to_list())
    if not found:
        return ""
    keep = gap_setting(missing, columns[0].name, list(found), keep=True)
    return f"{listed(found)} stands for a missing value, see data.missing; to keep it: {keep}"


def gap_setting(missing: Missing, column: str, words: Iterable[str], *, keep: bool = False) -> str:
    """Return how to count more strings of a column as missing, or with ``keep`` not to count them, for a message.

    >>> gap_setting(MISSING, "region", ["NA"], keep=True), gap_setting(["", "-"], "region", ["x"])
    ("{'data.missing.region': []}", "{'data.missing': ['', '-', 'x']}")
    """
    if isinstance(missing, Mapping) or tuple(missing) == MISSING:
        own = [] if keep else [*missing_in(missing, column), *words]
        return setting(("data", "missing", column), own)
    return setting(
        "data.missing", [one for one in missing if one not in words] if keep else [*missing, *words]
    )


def format_note(cells: pl.Series, numbers: pl.Series, mark: Mark, unit: str) -> str:
    """Return a note that shows how strings with separators of thousands or units are read, or an empty string."""
    import polars as pl

    plain = cells.cast(pl.Float64, strict=False)
    changed = (plain.is_null() & cells.is_not_null()) | (plain != numbers).fill_null(False)
    if mark == "comma":  # such as 1,5: a note on the file says it
        changed &= ~cells.str.contains(r"^[+-]?[0-9]*,[0-9]*$").fill_null(False)
    rows = changed.arg_true()
    if not len(rows):
        return ""
    cell, number = cells[int(rows[0])], numbers[int(rows[0])]
    return f"{cell!r} is read as {number:.15g}" + (f" (unit: {unit})" if unit else "")


def refuse_other_mark(
    columns: Iterable[pl.Series], mark: Mark, where: str = "", *, trained: bool = False
) -> None:
    """Raise a DataError that shows the cells of a column of numbers with the other decimal mark, if there is one.

    Args:
        columns: columns of stripped strings.
        mark: the decimal mark to expect.
        where: the file, for the message.
        trained: whether the mark is that of the training data, so that no setting can change it.
    """
    for cells in columns:
        if not written_otherwise(cells, mark):
            continue
        shown = listed(cells.drop_nulls().head(50).unique(maintain_order=True).to_list(), 3)
        other = "comma" if mark == "point" else "point"
        reason, remedies = (
            ("as in the training data", f"write all numbers with a decimal {mark}")
            if trained
            else (
                "as in the rest of the data or as set in data.decimal",
                f"write all numbers in one format, or {setting(('data', 'decimal'), other)}, or if these are not numbers: "
                f"{setting(('data', 'columns', cells.name), 'categorical')}",
            )
        )
        raise DataError(
            f"{where + ': ' if where else ''}column {cells.name!r}: expected numbers with a decimal {mark}, {reason}, "
            f"got {shown}; {remedies}"
        )


def table_decimal(
    table: pl.DataFrame | StoredTable,
    settings: DataSettings,
    *,
    targets: Iterable[pl.Series] = (),
    prior: Mark | None = "point",
    where: str = "",
) -> Decimal:
    """Return the decimal mark of the strings in a table, ``auto`` if none occurs.

    Args:
        table: the features.
        settings: columns of a declared kind other than numeric are left out.
        targets: columns of strings that count too.
        prior: the mark to expect, see :func:`~descend.data.number_format.find_decimal`.
        where: the source, for messages.

    Raises:
        DataError: the columns have different decimal marks, or can be read either way.
    """
    if settings.decimal != "auto":
        return settings.decimal
    names = [name for name in table.columns if settings.columns.get(name, "numeric") == "numeric"]
    strings = string_columns(table, names)
    columns = itertools.chain((table[name] for name in strings), targets)
    mark = find_decimal((stripped(one, settings.missing) for one in columns), where=where, prior=prior)
    return mark or "auto"


def string_columns(table: pl.DataFrame | StoredTable, names: Iterable[str]) -> list[str]:
    """Return the names of the columns that contain strings."""
    import polars as pl

    schema = table.schema
    return [name for name in names if schema[name] == pl.String]
