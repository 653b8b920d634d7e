"""Dates and times that are read by a pattern of ``strptime``, from strings and from numbers."""

from __future__ import annotations

import datetime as dt
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

__all__ = ["by_pattern", "digits_of"]

_OF_A_DAY = re.compile(r"%[-_0]?[deDFxcjuaAUWVs]")
"""Directives of a pattern that determine the day of a month, or that cannot be completed by the first day."""


def by_pattern(column: pl.Series, form: str) -> pl.Series:
    """Return strings as Datetime by a pattern of ``strptime``; a pattern without a day means the first of the month."""
    if not _OF_A_DAY.search(form):
        column, form = column + " 01", form + " %d"
    return column.str.to_datetime(form, strict=False, time_unit="us", ambiguous="null")


def digits_of(column: pl.Series, form: str) -> pl.Series:
    """Return numbers as the strings of a pattern: 1022021 is ``01022021`` for ``%d%m%Y``.

    >>> import polars as pl
    >>> digits_of(pl.Series([1022021.0, 0.5]), "%d%m%Y").to_list()
    ['01022021', None]
    """
    import polars as pl

    integers = column.cast(pl.Int64, strict=False)
    strings = integers.cast(pl.String).set(integers != column, None)
    example = dt.datetime(2000, 11, 22, 10, 33, 44).strftime(form)
    return strings.str.zfill(len(example)) if example.isdecimal() else strings
