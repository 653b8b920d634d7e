"""The numbers that columns become.

A used column becomes one number a row: the value, the days since 1970-01-01, 0 or 1, or the code of a
category. A missing value is NaN, a category that training did not see is -1. Categories are fitted on
the training rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from descend.data.columns import Column, raise_all, refuse, refuse_wild
from descend.data.messages import listed
from descend.data.parsing import parse_booleans, parse_dates, parse_numbers, tidy, to_text
from descend.data.settings import DataSettings
from descend.data.source import Array
from descend.data.streaming import StoredTable
from descend.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["OTHER", "StoredColumns", "conform", "encode", "fit_categories"]

OTHER = "other"


def conform(frame: pl.DataFrame, columns: Sequence[Column], missing: Sequence[str]) -> pl.DataFrame:
    """New rows, parsed as the columns that training saw.

    Columns may come in any order; others are ignored. Numbers may come as text and the other way round.

    Raises:
        DataError: every column that is missing or holds values of another kind.
    """
    import polars as pl

    problems = []
    parsed = []
    absent = [column.name for column in columns if column.used and column.name not in frame.columns]
    if absent:
        near = did_you_mean(absent[0], frame.columns)
        hint = f"; {near}" if len(absent) == 1 and near.startswith("did") else ""
        word = "the column {} is" if len(absent) == 1 else "the columns {} are"
        problems.append(f"{word.format(listed(absent))} missing; the data hold {listed(frame.columns)}{hint}")
    for column in columns:
        if not column.used or column.name not in frame.columns:
            continue
        try:
            values = tidy(frame[column.name], missing)
            if column.kind == "categorical":
                parsed.append(to_text(values))
                continue
            parse = {"numeric": parse_numbers, "boolean": parse_booleans, "date": parse_dates}[column.kind]
            found, bad = parse(values)
            refuse(values, bad, column.kind)
            if column.kind != "boolean":
                refuse_wild(found, column)
            parsed.append(found)
        except DataError as problem:
            problems.append(str(problem))
    raise_all(problems)
    return pl.DataFrame(parsed)


class StoredColumns:
    """The columns of a stored table with their values parsed as their kinds say.

    Args:
        table: the raw values.
        columns: their kinds.
        missing: words that stand for a missing value in text.
    """

    def __init__(self, table: StoredTable, columns: Sequence[Column], missing: Sequence[str]) -> None:
        self.table, self.missing = table, missing
        self._of_name = {column.name: column for column in columns}

    @overload
    def __getitem__(self, which: str) -> pl.Series: ...

    @overload
    def __getitem__(self, which: slice) -> pl.DataFrame: ...

    def __getitem__(self, which: str | slice) -> pl.Series | pl.DataFrame:
        """A column by its name, or some rows of all used columns."""
        if isinstance(which, slice):
            columns = list(self._of_name.values())
            return conform(self.table.rows(which.start, which.stop), columns, self.missing)
        held = self.table[which].to_frame()
        return conform(held, [self._of_name[which]], self.missing).to_series()


def fit_categories(columns: Sequence[Column], parsed: pl.DataFrame | StoredColumns, rows: Array,
                   settings: DataSettings) -> list[Column]:  # fmt: skip
    """The columns with categories and missing-value indicators from the training rows.

    Columns that hold nothing, or one text, in all training rows are set aside.
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
        gaps = seen.null_count() > 0
        if seen.null_count() == len(seen):
            fitted.append(
                dataclasses.replace(column, kind="empty", note="every training value is missing; not used")
            )
            continue
        column = dataclasses.replace(column, indicator=gaps)
        fitted.append(_with_categories(column, seen, settings) if column.kind == "categorical" else column)
    return fitted


def _with_categories(column: Column, seen: pl.Series, settings: DataSettings) -> Column:
    counts = seen.drop_nulls().value_counts(sort=False).sort("count", column.name, descending=[True, False])
    names = [str(name) for name in counts[column.name]]
    if len(names) == 1 and not column.indicator:
        return dataclasses.replace(column, kind="constant", note=f"always {names[0]!r} in training; not used")
    if len(names) <= settings.max_categories:
        return dataclasses.replace(column, categories=tuple(sorted(names)))
    kept = names[: settings.max_categories - 1]
    note = f"{len(names)} categories: the {len(kept)} most frequent are kept, the others pooled as {OTHER!r}"
    own = [*sorted(kept), OTHER if OTHER not in kept else f"{OTHER} (pooled)"]
    return dataclasses.replace(column, categories=tuple(own), pooled=True, note=note)


def encode(parsed: pl.DataFrame, columns: Sequence[Column]) -> Array:
    """The used columns as numbers.

    Args:
        parsed: rows from :func:`infer` or :func:`conform`.
        columns: fitted columns.

    Returns: float64 of shape (n, used columns), row-major.
    """
    import polars as pl

    numbers = []
    for column in columns:
        if not column.used:
            continue
        values = parsed[column.name]
        if column.kind == "categorical":
            own = column.categories[:-1] if column.pooled else column.categories
            codes = values.cast(pl.Enum(own), strict=False).to_physical().cast(pl.Float64)
            unseen = values.is_not_null() & codes.is_null()
            values = codes.set(unseen, len(own) if column.pooled else -1.0).alias(column.name)
        numbers.append(values.cast(pl.Float64))
    matrix = pl.DataFrame(numbers).to_numpy(order="c")
    return np.array(matrix) if not matrix.flags.writeable else matrix
