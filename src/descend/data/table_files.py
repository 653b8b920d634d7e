"""Table files: CSV, TSV, Parquet, Arrow."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from descend.data.number_format import Decimal, Mark
from descend.data.separator import declared_separator, find_separator, separator_option
from descend.data.settings import MISSING, Missing, Separator
from descend.data.streaming import read_or_raise
from descend.data.text_cells import typed
from descend.data.titles import unique_names
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TABLES", "Table", "read_table"]

_MARK = b"\xef\xbb\xbf"  # byte order mark of UTF-8
_PRIOR: dict[str, Mark] = {",": "point"}  # a comma that separates fields is rarely the decimal mark
_HEAD_BYTES = 1 << 20  # size of the beginning of a file, in which the header is expected


def read_table(
    path: Path,
    *,
    missing: Missing = MISSING,
    strings: Sequence[str] = (),
    labels: Sequence[str] = (),
    separator: Separator = "auto",
    decimal: Decimal = "auto",
    typed: bool = True,
) -> Table:
    """Read the table in a file.

    Args:
        path: a file whose suffix is one of :data:`TABLES`.
        missing: strings that stand for a missing value in text files.
        strings: columns of a text file to read as strings even if they look like numbers (postal codes).
        labels: columns of a text file in which strings for missing values stay, unless they contain numbers.
        separator: the character between the fields of a text file; ``auto`` finds it.
        decimal: the decimal mark of a text file; ``auto`` finds it.
        typed: whether to convert columns of a text file to numbers and booleans; otherwise all cells stay strings.

    Raises:
        DataError: the file is empty, damaged, ragged, not UTF-8, or has duplicate column names.
    """
    try:
        text_format = _TextFormat(missing, strings, labels, separator, decimal, typed)
        table = TABLES[path.suffix.lower()](path, text_format)
        titles = unique_names(table.frame.columns, str(path))
        return table._replace(frame=table.frame.rename(dict(zip(table.frame.columns, titles, strict=True))))
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


class Table(NamedTuple):
    """The table in a file.

    Args:
        frame: the columns.
        notes: remarks for the user.
        decimal: the decimal mark of a text file; ``auto`` if none occurs.
        prior: the decimal mark to expect in the file, if its separator is a reason for it.
    """

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    decimal: Decimal = "auto"
    prior: Mark | None = "point"


@dataclass(frozen=True)
class _TextFormat:
    """How the cells of a text file are read; binary formats ignore it."""

    missing: Missing
    strings: Sequence[str]
    labels: Sequence[str]
    separator: Separator
    decimal: Decimal
    typed: bool


def _read_text_file(path: Path, text_format: _TextFormat) -> Table:
    import polars as pl

    missing, strings = text_format.missing, text_format.strings
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.strip():
        raise DataError(f"{path} is empty; expected a header line and rows")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head:
        raise DataError(
            f"{path} is not UTF-8 text (it looks like UTF-16 or a binary file); save it as CSV in UTF-8"
        )
    source: Path | bytes = path
    if b"\r" in head and b"\n" not in head:
        source = head = path.read_bytes().replace(b"\r", b"\n")
    declared = declared_separator(head.decode("utf-8-sig", errors="ignore"))
    if declared is not None:
        content = path.read_bytes() if isinstance(source, Path) else source
        source = content.removeprefix(_MARK)[len(declared[0].encode()) - 1 + declared[1] :]
        head = source[:_HEAD_BYTES]
    text = head.decode("utf-8-sig", errors="ignore").lstrip("\r\n")
    if text_format.separator != "auto":
        separator: str = text_format.separator
    elif declared is not None and len(declared[0].encode()) == 1:
        separator = declared[0]
    elif path.suffix.lower() == ".tsv" and "\t" in text.split("\n", 1)[0]:
        separator = "\t"
    else:
        separator = find_separator(text, complete=len(head) < _HEAD_BYTES)
    names = _header(path, text, separator)
    padded = any(name != name.strip() for name in names)
    unnamed = not names[0].strip()
    names = [name.strip() or f"column_{at}" for at, name in enumerate(names)]
    unique_names(names, str(path))

    try:  # all cells as strings: what they mean is decided by columns as a whole
        frame = pl.read_csv(source, glob=False, separator=separator, new_columns=names, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as cause:
        raise _text_file_error(path, source, separator, len(names), cause) from cause
    if frame.height == 0:
        raise DataError(f"{path} has a header line but no rows")
    frame, notes = _without_blank_lines(path, source, separator, frame)
    if frame.width == 1:
        notes += (f"the file has one column; {separator_option(separator)}",)
    if padded:  # the file has ", " between values
        frame = frame.with_columns(pl.exclude(list(strings)).str.strip_chars())
    decimal, prior = text_format.decimal, _PRIOR.get(separator)
    if text_format.typed:
        result = typed(
            frame, missing=missing, strings=strings, labels=text_format.labels, decimal=decimal, prior=prior,
            where=str(path),
        )  # fmt: skip
        frame, notes, decimal = result.frame, (*notes, *result.notes), result.decimal
    if decimal == "comma":
        notes += ("numbers are read with decimal commas",)
    if unnamed and frame.width > 1 and _is_row_counter(frame[:, 0]):
        frame = frame[:, 1:]
        notes += ("the first column has no name and contains the row numbers; not used",)
    return Table(frame, notes, decimal, prior)


def _is_row_counter(series: pl.Series) -> bool:
    """Return whether a column contains 0, 1, 2, ... or 1, 2, 3, ..."""
    if not series.dtype.is_integer() or series.null_count():
        return False
    values = series.to_numpy()
    return bool(values[0] in (0, 1) and (np.diff(values) == 1).all())


def _header(path: Path, text: str, separator: str) -> list[str]:
    """Return the column names."""
    try:
        return next(csv.reader(io.StringIO(text), delimiter=separator))
    except (csv.Error, StopIteration) as cause:
        raise DataError(f"{path}: the header line cannot be read: {cause}") from cause


def _record_widths(source: Path | bytes, separator: str) -> list[int]:
    """Return the number of fields of each record, the header first; 0 for a blank line."""
    content = source if isinstance(source, bytes) else source.read_bytes()
    csv.field_size_limit(2**31 - 1)
    return [
        len(row)
        for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), delimiter=separator)
    ]


def _ragged_error(path: Path, widths: list[int], expected: int, separator: str) -> DataError | None:
    wrong = [at for at, width in enumerate(widths) if width not in (0, expected)]
    if not wrong:
        return None
    shown = "; ".join(f"record {at + 1} has {widths[at]}" for at in wrong[:3]) + (
        " ..." if len(wrong) > 3 else ""
    )
    return DataError(
        f"{path} is ragged: the header has {expected} fields, {shown}; "
        f"{separator_option(separator)}; check for separators inside values (quote them) and for lines that were "
        "cut off"
    )


def _text_file_error(
    path: Path, source: Path | bytes, separator: str, expected: int, cause: Exception
) -> DataError:
    try:
        error = _ragged_error(path, _record_widths(source, separator), expected, separator)
    except UnicodeDecodeError as where:
        return DataError(
            f"{path} is not UTF-8 text (byte {where.start}); convert it, or save it as CSV in UTF-8"
        )
    except csv.Error as where:
        return DataError(f"{path}: cannot be read as CSV: {where}")
    return error or DataError(
        f"{path}: cannot be read as CSV: {str(cause).splitlines()[0] if str(cause) else cause!r}; "
        f"{separator_option(separator)}"
    )


def _without_blank_lines(
    path: Path, source: Path | bytes, separator: str, frame: pl.DataFrame
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Remove rows that come from blank lines, and refuse records that are too short.

    polars fills short records with nulls, so a table without nulls in its last column has neither.
    """
    if frame.width < 2 or frame[:, -1].null_count() == 0:
        return frame, ()
    try:
        widths = _record_widths(source, separator)
    except (csv.Error, UnicodeDecodeError):
        return frame, ()
    error = _ragged_error(path, widths, frame.width, separator)
    if error:
        raise error
    while widths and widths[0] == 0:
        widths.pop(0)
    blank = np.array(widths[1:]) == 0
    if len(blank) != frame.height:  # polars makes no rows of blank lines at the end
        blank = blank[: frame.height]
    if len(blank) != frame.height or not blank.any():
        return frame, ()
    kept = frame.filter(~blank)
    if kept.height == 0:
        raise DataError(f"{path} has a header line but no rows")
    return kept, (f"{int(blank.sum())} blank lines are skipped",)


def _read_parquet(path: Path, text_format: _TextFormat) -> Table:
    import polars as pl

    return Table(_binary(path, "Parquet", lambda: pl.read_parquet(path, glob=False, hive_partitioning=False)))


def _read_arrow(path: Path, text_format: _TextFormat) -> Table:
    import polars as pl

    with path.open("rb") as file:
        reader = pl.read_ipc if file.read(6) == b"ARROW1" else pl.read_ipc_stream

    def parse() -> pl.DataFrame:
        with path.open("rb") as file:  # polars would interpret a path as a glob pattern
            return reader(file)

    return Table(_binary(path, "Arrow", parse))


def _binary(path: Path, file_format: str, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    frame = read_or_raise(path, file_format, read)
    if frame.height == 0:
        raise DataError(f"{path} has no rows")
    return frame


Reader = Callable[[Path, _TextFormat], Table]
TABLES: dict[str, Reader] = {
    ".csv": _read_text_file, ".tsv": _read_text_file, ".txt": _read_text_file,
    ".parquet": _read_parquet, ".pq": _read_parquet,
    ".arrow": _read_arrow, ".feather": _read_arrow, ".ipc": _read_arrow,
}  # fmt: skip
"""Readers of table files by the suffix of the file."""
