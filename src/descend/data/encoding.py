"""Encoding of columns as a matrix of numbers.

A used column becomes one number per row: the value, the days since 1970-01-01, 0 or 1, or the code of a
category. A missing value is NaN; a category that does not occur in the training rows is -1. Categories are fitted
on the training rows. A text column becomes several numbers, at the end of the row: the indices of its n-grams
(:mod:`descend.data.ngrams`), padded with 0; a missing text is NaN and zeros.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from descend.data.category_encoding import LARGEST, encoding_of
from descend.data.category_forms import aliases, key
from descend.data.column import NUMBERS
from descend.data.columns import Column, refuse, refuse_extreme
from descend.data.date_reading import expected_values
from descend.data.date_reading import parse as parse_date_kind
from descend.data.messages import listed, raise_all
from descend.data.missing_numbers import without_missing_numbers
from descend.data.ngrams import NGrams, ngram_indices
from descend.data.number_format import Mark, find_decimal, parse
from descend.data.parsing import float_strings, parse_booleans, parse_numbers, tidy, to_strings
from descend.data.settings import DataSettings, Decimal, Missing, missing_in
from descend.data.source import Array
from descend.data.streaming import StoredTable
from descend.data.text_cells import refuse_other_mark
from descend.errors import DataError, did_you_mean
from descend.process import is_fork

if TYPE_CHECKING:
    import polars as pl

__all__ = ["OTHER", "StoredColumns", "cells_of_row", "conform", "encode", "fit_categories", "text_cells"]

OTHER = "other"
_PADDED = re.compile(r"-?(?:0\d+(?:\.\d*)?|\d+\.\d*0)")  # digits that a number does not keep


def conform(
    frame: pl.DataFrame, columns: Sequence[Column], missing: Missing, decimal: Decimal = "auto"
) -> pl.DataFrame:
    """Parse new rows as the columns of the training data.

    Columns may come in any order; additional columns are ignored. Numbers may come as strings and vice versa.

    Args:
        frame: the new rows.
        columns: the columns of the training data.
        missing: strings that stand for a missing value.
        decimal: the decimal mark of strings in the training data; ``auto`` finds that of the new rows.

    Raises:
        DataError: columns are missing or hold values of another kind; the message lists all of them.
    """
    import polars as pl

    problems: list[str | DataError] = []
    parsed = []
    titles = {column.name: _title(column.name, frame) for column in columns if column.used}
    absent = [name for name, title in titles.items() if title is None]
    if absent:
        suggestion = did_you_mean(absent[0], frame.columns)
        hint = f"; {suggestion}" if len(absent) == 1 and suggestion.startswith("did") else ""
        subject = "the column {} is" if len(absent) == 1 else "the columns {} are"
        problems.append(
            f"{subject.format(listed(absent))} missing; the columns are {listed(frame.columns)}{hint}"
        )
    tidied: list[tuple[Column, pl.Series]] = []
    for column in columns:
        title = titles.get(column.name)
        if title is None:
            continue
        try:
            # What is a category is not missing.
            gaps = [one for one in missing_in(missing, column.name) if one not in column.categories]
            tidied.append((column, tidy(frame[title].alias(column.name), gaps)))
        except DataError as problem:
            problems.append(str(problem))
    raise_all(problems)
    if decimal == "auto":
        numbers = (one for column, one in tidied if column.kind == "numeric" and one.dtype == pl.String)
        decimal = find_decimal(numbers) or "point"
    for column, values in tidied:
        try:
            converted = _as_kind(values, column, decimal)
            if column.kind == "numeric":
                converted = without_missing_numbers(converted, missing)
            if column.kind in NUMBERS:
                refuse_extreme(converted, column, predicting=True)
            parsed.append(converted)
        except DataError as problem:
            problems.append(problem)
    raise_all(problems)
    return pl.DataFrame(parsed)


def _title(name: str, frame: pl.DataFrame) -> str | None:
    """Return the name of a column in a frame, whose names have no surrounding spaces; None if it is absent."""
    if name in frame.columns:
        return name
    return name.strip() if name.strip() in frame.columns else None


def _as_kind(values: pl.Series, column: Column, decimal: Mark) -> pl.Series:
    """Convert a tidied column to the kind of the column in the training data."""
    if column.kind == "categorical":
        return _as_categories(values, column)
    if column.kind == "text":
        return to_strings(values)
    if column.kind == "boolean":
        converted, invalid = parse_booleans(values)
        refuse(values, invalid, column.kind)
        return converted
    if column.kind in ("date", "time", "duration"):
        converted, invalid = parse_date_kind(values, column.kind, column.form, column.zone)
        refuse(
            values,
            invalid,
            column.kind,
            expected_values(column.kind, column.form, column.zone, values.filter(invalid)),
        )
    else:
        converted, invalid = _numbers(values, column, decimal)
        refuse(values, invalid, column.kind)
    return converted


def _numbers(values: pl.Series, column: Column, decimal: Mark) -> tuple[pl.Series, pl.Series]:
    import polars as pl

    if values.dtype == pl.String:
        if column.unit:
            return parse(values, decimal, column.unit)[:2]
        converted, invalid = parse_numbers(values, decimal, "")
        if invalid.any() and (column.low, column.high) == (0, 1):  # true and false in the column's other form
            booleans, invalid = parse_booleans(values)
            converted = booleans.cast(pl.Float64) if not invalid.any() else converted
        if invalid.any():
            refuse_other_mark([values], decimal, trained=True)
        return converted, invalid
    return parse_numbers(values)


def _as_categories(values: pl.Series, column: Column) -> pl.Series:
    """Convert a tidied column to strings.

    A number becomes the only category that is this number, such as "007" or "1.50". Older schemas have categories such
    as "1.5e+18" for large integers, and "0.10000000149011612" for 0.1 in single precision; a number then becomes the
    string of that form.
    """
    import polars as pl

    strings = to_strings(values)
    if values.dtype not in (pl.Float64, pl.Int128):
        return strings
    exact = float_strings(values.cast(pl.Float64))
    older = (~strings.is_in(column.categories) & exact.is_in(column.categories)).fill_null(False)
    if older.any():
        strings = exact.zip_with(older, strings)
    by_number: dict[float, list[str]] = {}
    for category in column.categories:
        if _PADDED.fullmatch(category):
            by_number.setdefault(float(category), []).append(category)
    if not by_number:
        return strings
    padded = {number: names[0] for number, names in by_number.items() if len(names) == 1}
    found = values.cast(pl.Float64).replace_strict(padded, default=None, return_dtype=pl.String)
    return strings.zip_with(strings.is_in(column.categories) | found.is_null() | strings.is_null(), found)


class StoredColumns:
    """The columns of a stored table, parsed according to their kinds when they are accessed.

    Args:
        table: the raw values.
        columns: the columns with their kinds.
        missing: strings that stand for a missing value.
        decimal: the decimal mark of strings.
    """

    def __init__(
        self, table: StoredTable, columns: Sequence[Column], missing: Missing, decimal: Decimal = "auto"
    ) -> None:
        self.table, self.missing, self.decimal = table, missing, decimal
        self._by_name = {column.name: column for column in columns}

    @overload
    def __getitem__(self, which: str) -> pl.Series: ...

    @overload
    def __getitem__(self, which: slice) -> pl.DataFrame: ...

    def __getitem__(self, which: str | slice) -> pl.Series | pl.DataFrame:
        """Return a column by its name, or some rows of all used columns."""
        if isinstance(which, slice):
            columns = list(self._by_name.values())
            return conform(self.table.rows(which.start, which.stop), columns, self.missing, self.decimal)
        frame = self.table[which].to_frame()
        return conform(frame, [self._by_name[which]], self.missing, self.decimal).to_series()


def fit_categories(columns: Sequence[Column], parsed: pl.DataFrame | StoredColumns, rows: Array,
                   settings: DataSettings) -> list[Column]:  # fmt: skip
    """Fit categories and missing-value indicators on the training rows, and return the fitted columns.

    A column without any value, or with a single category, in the training rows is not used.
    """
    fitted = []
    for column in columns:
        if not column.used:
            fitted.append(column)
            continue
        values = parsed[column.name]
        if column.kind != "categorical" and values.null_count() == 0:
            fitted.append(column)
            continue
        seen = values.gather(rows) if len(rows) < len(values) else values
        has_missing = seen.null_count() > 0
        if seen.null_count() == len(seen):
            fitted.append(
                dataclasses.replace(
                    column, kind="empty", note="every value in the training rows is missing; not used"
                )
            )
            continue
        column = dataclasses.replace(column, indicator=has_missing)
        fitted.append(
            _with_categories(column, values, seen, settings) if column.kind == "categorical" else column
        )
    return fitted


def _one_form(counts: Mapping[str, int]) -> list[str]:
    """Return the categories, the most frequent first; categories of one value are merged under the first form.

    Args:
        counts: number of rows of each category, the most frequent first.
    """
    forms = {key(name) for name in counts}
    if len(forms) == len(counts):
        return list(counts)
    first: dict[str, str] = {}
    total: dict[str, int] = {}
    for name, count in counts.items():
        own = first.setdefault(key(name), name)
        total[own] = total.get(own, 0) + count
    return sorted(total, key=lambda name: (-total[name], name))


def _outside(names: Sequence[str], values: pl.Series) -> list[str]:
    """Return the categories that occur in the values, but are not among the names in any form."""
    known = {*names, *aliases(names)}
    return _one_form(dict.fromkeys(sorted(set(values.drop_nulls().unique().to_list()) - known), 1))


def _with_categories(column: Column, values: pl.Series, seen: pl.Series, settings: DataSettings) -> Column:
    counts = seen.drop_nulls().value_counts(sort=False).sort("count", column.name, descending=[True, False])
    names = _one_form(dict(zip(counts[column.name].to_list(), counts["count"].to_list(), strict=True)))
    if len(names) == 1 and not column.indicator:
        return dataclasses.replace(
            column, kind="constant", note=f"always {names[0]!r} in the training rows; not used"
        )
    if column.ordered:
        return column
    most = LARGEST if encoding_of(column, settings) == "target" else settings.max_categories
    if len(names) <= most:
        others = _outside(names, values)[: most - len(names)]
        return dataclasses.replace(column, categories=(*sorted(names), *others), unseen=len(others))
    kept = names[: most - 1]
    note = f"{len(names)} categories: the {len(kept)} most frequent are kept, the others pooled as {OTHER!r}"
    own = [*sorted(kept), OTHER if OTHER not in kept else f"{OTHER} (pooled)"]
    return dataclasses.replace(column, categories=tuple(own), pooled=True, note=note)


def _codes_of_other_forms(values: pl.Series, categories: Sequence[str]) -> pl.Series:
    """Return the codes of strings such as "true" where the category is "True", and null for all others."""
    import polars as pl

    code = {category: float(at) for at, category in enumerate(categories)}
    forms = {form: code[category] for form, category in aliases(categories).items()}
    return values.replace_strict(forms, default=None, return_dtype=pl.Float64)


def encode(parsed: pl.DataFrame, columns: Sequence[Column]) -> Array:
    """Encode the used columns as numbers: one for each column that is not text, then the cells of the text columns.

    Args:
        parsed: rows from :func:`~descend.data.columns.infer` or :func:`conform`.
        columns: the fitted columns.

    Returns: float64 of shape (n, :func:`cells_of_row`), row-major.
    """
    import polars as pl

    numbers: list[pl.Series] = []
    texts: list[Array] = []
    for column in columns:
        if not column.used:
            continue
        values = parsed[column.name]
        if column.text is not None:
            texts.append(text_cells(values, column.text))
            continue
        if column.kind == "categorical":
            own = column.coded[:-1] if column.pooled else column.coded
            codes = values.cast(pl.Enum(own), strict=False).to_physical().cast(pl.Float64)
            unseen = values.is_not_null() & codes.is_null()
            if unseen.any():
                codes = codes.zip_with(~unseen, _codes_of_other_forms(values, own))
                unseen = values.is_not_null() & codes.is_null()
            values = codes.set(unseen, len(own) if column.pooled else -1.0).alias(column.name)
        numbers.append(values.cast(pl.Float64))
    if not numbers:
        return np.concatenate(texts, axis=1)
    if is_fork():  # where the conversion of several columns at once finds no threads
        matrix = np.stack([values.to_numpy() for values in numbers], axis=1)
    else:
        matrix = pl.DataFrame(numbers).to_numpy(order="c")
    if texts:
        return np.concatenate([matrix, *texts], axis=1)
    return np.array(matrix) if not matrix.flags.writeable else matrix


def text_cells(texts: pl.Series, ngrams: NGrams) -> Array:
    """Return the cells of a text column: the indices of its n-grams, padded with 0; NaN in the first if it is missing.

    Returns: float64 (n, length).

    >>> import polars as pl
    >>> text_cells(pl.Series(["ab", None]), NGrams(10, 3, (1, 1), (0, 0))).tolist()
    [[9.0, 0.0, 0.0], [nan, 0.0, 0.0]]
    """
    cells = ngram_indices(texts, ngrams).astype(np.float64)
    cells[texts.is_null().to_numpy(), 0] = np.nan
    return cells


def cells_of_row(columns: Sequence[Column]) -> int:
    """Return the number of cells of a raw row.

    >>> cells_of_row([Column("age", "numeric"), Column("note", "text", text=NGrams(10, 3, (1, 1), (0, 0)))])
    4
    """
    return sum(1 if column.text is None else column.text.length for column in columns if column.used)
