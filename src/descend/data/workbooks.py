"""Tables in workbooks of Excel and OpenDocument, read by the optional package ``fastexcel``."""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING

from descend.data.dates import DAY
from descend.data.messages import listed
from descend.data.parsing import EXACT
from descend.data.titles import unique_names
from descend.errors import DataError, did_you_mean, require
from descend.interface import setting

if TYPE_CHECKING:
    import polars as pl

__all__ = ["WORKBOOKS", "frame_of_workbook", "is_workbook"]

WORKBOOKS = (".xlsx", ".xlsm", ".xlsb", ".xls", ".ods")
"""Suffixes of workbooks."""
_HEAD = 20  # rows among which the header is found
_FEWEST_TITLES = 3
_NUMBER = re.compile(r"[+-]?[0-9][0-9.,]*(e[+-]?[0-9]+)?", re.IGNORECASE)
_DAYS_TO_1970 = 25_568  # from 1899-12-31, which is day 0 of a time in a workbook
_LONGEST = 59  # days; dates of a workbook from 1900-03-01 on are right, and earlier ones are one day late


def frame_of_workbook(name: str, content: bytes, sheet: str = "auto") -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Return the table in a sheet of a workbook, and remarks for the user.

    The first row that is not empty contains the column names; rows above it with a single cell, such as a title of a
    table of three columns or more, are skipped. Times of day and durations, which are days since 1899-12-31 in a
    workbook, are read as such. Empty rows, and empty columns without a name, are
    skipped. A cell with an error (``#DIV/0!``) is a missing value.

    Args:
        name: the file, for messages.
        content: its bytes.
        sheet: the name of the sheet; ``auto`` takes the first one.

    Raises:
        MissingExtraError: ``fastexcel`` is not installed.
        DataError: the file is damaged, there is no such sheet, or it is empty.
    """
    fastexcel = require("fastexcel", "excel", f"reading the workbook {name}")

    if not content:
        raise DataError(f"{name} is empty")
    try:
        with _without_log():
            workbook = fastexcel.read_excel(content)
            sheets = list(workbook.sheet_names)
            chosen = _chosen(name, sheet, sheets)
            head = workbook.load_sheet(chosen, header_row=None, n_rows=_HEAD, dtypes="string").to_polars()
            above = _rows_above_header(head)
            titles = head[above:]
            frame = workbook.load_sheet(chosen, schema_sample_rows=None, header_row=above).to_polars()
            strings = workbook.load_sheet(chosen, dtypes="string", header_row=above).to_polars()
    except DataError:
        raise
    except Exception as cause:  # the package raises many types for damaged files
        first = (str(cause) or type(cause).__name__).splitlines()[0]
        raise DataError(f"{name}: cannot be read as a workbook: {first}; is it damaged?") from cause
    if frame.height == 0 or titles.height == 0:
        raise DataError(f"{name}: the sheet {chosen!r} has no rows{_others(chosen, sheets)}")
    # The package drops strings among dates: such a column stays a column of strings.
    frame = frame.with_columns(
        [other for one, other in zip(frame, strings, strict=True) if other.null_count() < one.null_count()]
    )
    names = [(title or "").strip() for title in titles.row(0)]
    unnamed = {f"column_{at}" for at, title in enumerate(names) if not title}
    frame.columns = unique_names([title or f"column_{at}" for at, title in enumerate(names)], name)
    frame = frame.select(one for one in frame if not (one.name in unnamed and one.null_count() == len(one)))
    frame = frame.filter(~_without_values(frame))
    frame = frame.select(_as_times(_as_integers(one)) for one in frame)
    if frame.height == 0:
        raise DataError(f"{name}: the sheet {chosen!r} has no rows{_others(chosen, sheets)}")
    notes = [f"{above} row{'s' * (above > 1)} above the header {'are' if above > 1 else 'is'} skipped"] * (
        above > 0
    )
    if sheet == "auto" and len(sheets) > 1:
        notes.append(f"the sheet {chosen!r} is read{_others(chosen, sheets)}")
    return frame, tuple(notes)


def _rows_above_header(head: pl.DataFrame) -> int:
    """Return how many of the first rows have one cell or none, if the table has three columns or more."""
    filled = [sum(cell is not None and str(cell).strip() != "" for cell in row) for row in head.rows()]
    header = next((at for at, count in enumerate(filled) if count > 1), 0)
    if not filled or filled[header] < _FEWEST_TITLES:
        return 0
    are_titles = not any(_NUMBER.fullmatch(cell.strip()) for cell in head.row(header) if cell is not None)
    return header if are_titles else 0


def _as_times(series: pl.Series) -> pl.Series:
    """Return times of day and durations, of which some are below a day, in place of dates of the first days of 1900."""
    import polars as pl

    if series.dtype != pl.Datetime or series.null_count() == len(series):
        return series
    since = series.cast(pl.Datetime("us")).cast(pl.Int64) + _DAYS_TO_1970 * DAY
    low, high = int(since.min()), int(since.max())  # type: ignore[arg-type]  # of integers
    if not 0 <= low < DAY or high >= _LONGEST * DAY:
        return series
    return (since * 1000).cast(pl.Time) if high < DAY else since.cast(pl.Duration("us"))


def is_workbook(content: bytes) -> bool:
    """Return whether a zip archive is a workbook.

    >>> is_workbook(b"a,b")
    False
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return False
    return bool(names & {"xl/workbook.xml", "xl/workbook.bin"} or {"mimetype", "content.xml"} <= names)


def _chosen(name: str, sheet: str, sheets: Sequence[str]) -> str:
    if not sheets:
        raise DataError(f"{name} has no sheets")
    if sheet == "auto":
        return sheets[0]
    if sheet not in sheets:
        raise DataError(f"{name}: data.sheet: no sheet {sheet!r}; {did_you_mean(sheet, sheets)}")
    return sheet


def _others(chosen: str, sheets: Sequence[str]) -> str:
    others = [sheet for sheet in sheets if sheet != chosen]
    if not others:
        return ""
    return f"; other sheets: {listed(others, 5)} ({setting('data.sheet', others[0])})"


def _as_integers(series: pl.Series) -> pl.Series:
    """Return numbers without fractions as integers: a workbook stores all numbers as floating-point numbers."""
    import polars as pl

    if (
        series.dtype != pl.Float64
        or not (series.abs() <= EXACT).all()
        or not (series == series.round()).all()
    ):
        return series
    return series.cast(pl.Int64)


def _without_values(frame: pl.DataFrame) -> pl.Series:
    """Return a mask of the rows without any value."""
    import polars as pl

    return frame.select(pl.all_horizontal(pl.all().is_null())).to_series()


@contextmanager
def _without_log() -> Iterator[None]:
    """Suppress the log of the package, which lists the columns without values."""
    logger = logging.getLogger("fastexcel")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
