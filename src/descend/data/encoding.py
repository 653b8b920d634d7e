"""Encoding of columns as a matrix of numbers.

A used column becomes one number per row: the value, the days since 1970-01-01, 0 or 1, or the code of a
category. A missing value is NaN; a category that does not occur in the training rows is -1. Categories are fitted
on the training rows. A text column becomes several numbers, at the end of the row: the indices of its n-grams
(:mod:`descend.data.ngrams`), padded with 0; a missing text is NaN and zeros.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from descend.data.columns import Column, raise_all, refuse, refuse_extreme
from descend.data.date_reading import expected_values
from descend.data.date_reading import parse as parse_date_kind
from descend.data.messages import listed
from descend.data.ngrams import NGrams, ngram_indices
from descend.data.parsing import parse_booleans, parse_numbers, tidy, to_strings
from descend.data.settings import DataSettings
from descend.data.source import Array
from descend.data.streaming import StoredTable
from descend.errors import DataError, did_you_mean
from descend.process import is_fork

if TYPE_CHECKING:
    import polars as pl

__all__ = ["OTHER", "StoredColumns", "cells_of_row", "conform", "encode", "fit_categories", "text_cells"]

OTHER = "other"
_EXPONENT = re.compile(r"-?\d(\.\d+)?e\+?\d+")


def conform(frame: pl.DataFrame, columns: Sequence[Column], missing: Sequence[str]) -> pl.DataFrame:
    """Parse new rows as the columns of the training data.

    Columns may come in any order; additional columns are ignored. Numbers may come as strings and vice versa.

    Raises:
        DataError: columns are missing or hold values of another kind; the message lists all of them.
    """
    import polars as pl

    problems = []
    parsed = []
    absent = [column.name for column in columns if column.used and column.name not in frame.columns]
    if absent:
        suggestion = did_you_mean(absent[0], frame.columns)
        hint = f"; {suggestion}" if len(absent) == 1 and suggestion.startswith("did") else ""
        subject = "the column {} is" if len(absent) == 1 else "the columns {} are"
        problems.append(
            f"{subject.format(listed(absent))} missing; the columns are {listed(frame.columns)}{hint}"
        )
    for column in columns:
        if not column.used or column.name not in frame.columns:
            continue
        try:
            # What is a category is not missing.
            values = tidy(frame[column.name], [one for one in missing if one not in column.categories])
            if column.kind == "categorical":
                parsed.append(_as_categories(values, column))
                continue
            if column.kind == "text":
                parsed.append(to_strings(values))
                continue
            if column.kind in ("date", "time", "duration"):
                converted, invalid = parse_date_kind(values, column.kind, column.form, column.zone)
                refuse(values, invalid, column.kind, expected_values(column.kind, column.form, column.zone))
            else:
                parse = {"numeric": parse_numbers, "boolean": parse_booleans}[column.kind]
                converted, invalid = parse(values)
                refuse(values, invalid, column.kind)
            if column.kind != "boolean":
                refuse_extreme(converted, column)
            parsed.append(converted)
        except DataError as problem:
            problems.append(str(problem))
    raise_all(problems)
    return pl.DataFrame(parsed)


def _as_categories(values: pl.Series, column: Column) -> pl.Series:
    """Convert a tidied column to strings.

    Older schemas have categories such as "1.5e+18" for large integers; a number then becomes the string of that form.
    """
    import polars as pl

    strings = to_strings(values)
    if values.dtype not in (pl.Float64, pl.Int128) or not any(map(_EXPONENT.fullmatch, column.categories)):
        return strings
    exponents = values.cast(pl.Float64).cast(pl.String)
    older = ~strings.is_in(column.categories) & exponents.is_in(column.categories)
    return exponents.zip_with(older.fill_null(False), strings)


class StoredColumns:
    """The columns of a stored table, parsed according to their kinds when they are accessed.

    Args:
        table: the raw values.
        columns: the columns with their kinds.
        missing: strings that stand for a missing value.
    """

    def __init__(self, table: StoredTable, columns: Sequence[Column], missing: Sequence[str]) -> None:
        self.table, self.missing = table, missing
        self._by_name = {column.name: column for column in columns}

    @overload
    def __getitem__(self, which: str) -> pl.Series: ...

    @overload
    def __getitem__(self, which: slice) -> pl.DataFrame: ...

    def __getitem__(self, which: str | slice) -> pl.Series | pl.DataFrame:
        """Return a column by its name, or some rows of all used columns."""
        if isinstance(which, slice):
            columns = list(self._by_name.values())
            return conform(self.table.rows(which.start, which.stop), columns, self.missing)
        frame = self.table[which].to_frame()
        return conform(frame, [self._by_name[which]], self.missing).to_series()


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
        fitted.append(_with_categories(column, seen, settings) if column.kind == "categorical" else column)
    return fitted


def _with_categories(column: Column, seen: pl.Series, settings: DataSettings) -> Column:
    counts = seen.drop_nulls().value_counts(sort=False).sort("count", column.name, descending=[True, False])
    names = [str(name) for name in counts[column.name]]
    if len(names) == 1 and not column.indicator:
        return dataclasses.replace(
            column, kind="constant", note=f"always {names[0]!r} in the training rows; not used"
        )
    if column.ordered:
        return column
    if len(names) <= settings.max_categories:
        return dataclasses.replace(column, categories=tuple(sorted(names)))
    kept = names[: settings.max_categories - 1]
    note = f"{len(names)} categories: the {len(kept)} most frequent are kept, the others pooled as {OTHER!r}"
    own = [*sorted(kept), OTHER if OTHER not in kept else f"{OTHER} (pooled)"]
    return dataclasses.replace(column, categories=tuple(own), pooled=True, note=note)


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
            own = column.categories[:-1] if column.pooled else column.categories
            codes = values.cast(pl.Enum(own), strict=False).to_physical().cast(pl.Float64)
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
    [[8.0, 0.0, 0.0], [nan, 0.0, 0.0]]
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
