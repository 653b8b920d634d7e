"""Dates that stand for a missing value, such as 9999-12-31."""

from __future__ import annotations

from typing import TYPE_CHECKING

from descend.data.dates import parse_cells
from descend.data.settings import MISSING, Missing, missing_in

if TYPE_CHECKING:
    import polars as pl

__all__ = ["without_missing_dates"]


def without_missing_dates(values: pl.Series, missing: Missing) -> pl.Series:
    """Return a column of instants in which those that stand for a missing value are nulls.

    Args:
        values: instants in microseconds.
        missing: strings that stand for a missing value, in all columns or by the name of the column.

    >>> import datetime, polars as pl
    >>> days = pl.Series([datetime.datetime(2026, 1, 31), datetime.datetime(9999, 12, 31)])
    >>> without_missing_dates(days, ["9999-12-31"]).null_count()
    1
    """
    import polars as pl

    words = [word for word in missing_in(missing, values.name) if word not in MISSING]
    if not words or values.null_count() == len(values):
        return values
    instants, offset = parse_cells(pl.Series(words)).instants()
    absent = (instants - offset.fill_null(0)).drop_nulls()
    found = values.cast(pl.Int64).is_in(absent.to_list()).fill_null(False)
    return values.set(found, None) if found.any() else values
