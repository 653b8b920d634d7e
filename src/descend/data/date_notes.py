"""Remarks on columns whose values may be dates that were not read, or that stand for a missing date."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from descend.data.dates import EXCEL
from descend.data.messages import listed
from descend.data.settings import Missing, missing_in
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = ["distant_dates_note", "numbers_note", "unread_dates_note"]

_FAR = 3
"""A date is distant if its distance to the next date is this factor times the span of all others."""
_LEAST_DAYS = 3_650
_LIKE_A_DATE = r"^[0-9\s./:_-]*(?:19|20)[0-9]{2}[0-9\s./:_-]*$"
_NAMED = re.compile(r"(date|time|stamp|epoch|created|updated|modified|datum|(^|[_ ])(at|ts|when|on)$)", re.I)
_RANGES = {"seconds": (5e8, 4.2e9), "milliseconds": (5e11, 4.2e12), EXCEL: (1e4, 7.4e4)}
"""Smallest and largest number of each unit: 1985 to 2103, and 1927 to 2102 for Excel."""


def distant_dates_note(values: pl.Series, days: pl.Series, missing: Missing) -> str:
    """Return a note if some rows hold one date that is far from all others, such as 9999-12-31; otherwise ``""``.

    Args:
        values: the cells of the column.
        days: the same in days since 1970-01-01.
        missing: the strings that stand for a missing value.

    >>> import polars as pl
    >>> cells = pl.Series("end", ["2021-01-05", "2021-03-01", "9999-12-31", "9999-12-31"])
    >>> distant_dates_note(cells, pl.Series([18632.0, 18687.0, 2932896.0, 2932896.0]), [""])[:52]
    "2 rows hold '9999-12-31', far from the other dates; "
    """
    import polars as pl

    present = days.drop_nulls()
    if len(present) == 0:
        return ""
    low, high = float(present.min()), float(present.max())  # type: ignore[arg-type]  # of a Float64 series
    for extreme in (high, low):
        others = present.filter(present != extreme)
        if others.n_unique() < 2:
            continue
        start, end = float(others.min()), float(others.max())  # type: ignore[arg-type]  # of a Float64 series
        gap = max(start - extreme, extreme - end)
        rows = (days == extreme).fill_null(False)
        if rows.sum() < 2 or gap < max(_LEAST_DAYS, _FAR * (end - start)):
            continue
        raw = values.filter(rows)[0]
        cell = (
            raw
            if isinstance(raw, str)
            else pl.Series([raw]).cast(pl.String)[0].removesuffix(" 00:00:00.000000")
        )
        key = setting(("data", "missing", values.name), [*missing_in(missing, values.name), cell])
        return (
            f"{int(rows.sum())} rows hold {listed([cell])}, far from the other dates; if it stands for a missing date: "
            f"{key}"
        )
    return ""


def numbers_note(values: pl.Series) -> str:
    """Return a note if the numbers of a column named like a date may count the time; otherwise ``""``.

    >>> import polars as pl
    >>> numbers_note(pl.Series("created_at", [1.6e9, 1.7e9]))[:48]
    'may be times in seconds since 1970-01-01; if so:'
    """
    present = values.drop_nulls()
    if len(present) == 0 or not _NAMED.search(values.name):
        return ""
    low, high = float(present.min()), float(present.max())  # type: ignore[arg-type]  # of a numeric series
    for unit, (first, last) in _RANGES.items():
        if first <= low and high <= last:
            key = setting(("data", "columns", values.name), {"kind": "date", "format": unit})
            what = "dates of Excel" if unit == EXCEL else f"times in {unit} since 1970-01-01"
            return f"may be {what}; if so: {key}"
    return ""


def unread_dates_note(values: pl.Series) -> str:
    """Return a note if most strings of a column look like dates that are not read; otherwise ``""``.

    >>> import polars as pl
    >>> unread_dates_note(pl.Series("day", ["2021-031", "2021-032"]))[:31]
    'if these are dates, declare how'
    """
    share = values.drop_nulls().str.contains(_LIKE_A_DATE).mean()
    if share is None or float(share) < 0.8:  # type: ignore[arg-type]  # of booleans
        return ""
    key = setting(("data", "columns", values.name), {"kind": "date", "format": "%Y-%j"})
    return f"if these are dates, declare how they are written, for example {key}"
