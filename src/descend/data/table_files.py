"""Table files: CSV, TSV, Parquet, Arrow."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from descend.data.frames import unique_names
from descend.data.settings import MISSING
from descend.data.streaming import read_or_raise
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TABLES", "read_table"]

_SEPARATORS = (",", ";", "\t", "|")
_HEAD_BYTES = 1 << 20  # size of the beginning of a file, in which the header is expected


def read_table(
    path: Path, *, missing: Sequence[str] = MISSING, strings: Sequence[str] = ()
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Read the table in a file; also return remarks for the user.

    Args:
        path: a file whose suffix is one of :data:`TABLES`.
        missing: strings that stand for a missing value in text files.
        strings: columns of a text file to read as strings even if they look like numbers (postal codes).

    Raises:
        DataError: the file is empty, damaged, ragged, not UTF-8, or has duplicate column names.
    """
    try:
        return TABLES[path.suffix.lower()](path, missing, strings)
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def _read_text_file(
    path: Path, missing: Sequence[str], strings: Sequence[str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    import polars as pl

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
    names, separator = _header(path, head)
    padded = any(name != name.strip() for name in names)
    unnamed = not names[0].strip()
    names = [name.strip() or f"column_{at}" for at, name in enumerate(names)]
    unique_names(names, str(path))

    def parse(decimal_comma: bool) -> pl.DataFrame:
        return pl.read_csv(
            source, glob=False, separator=separator, new_columns=names, infer_schema_length=None,
            null_values=list(missing), decimal_comma=decimal_comma,
            schema_overrides={name: pl.String for name in strings if name in names},
        )  # fmt: skip

    try:
        frame = parse(False)
        use_comma = separator != "," and any(_has_decimal_commas(series) for series in frame)
        if use_comma:
            frame = parse(True)
    except (pl.exceptions.PolarsError, OSError, ValueError) as cause:
        raise _text_file_error(path, source, separator, len(names), cause) from cause
    if frame.height == 0:
        raise DataError(f"{path} has a header line but no rows")
    frame, notes = _without_blank_lines(path, source, separator, frame)
    if padded:  # the file has ", " between values
        columns = [series if series.name in strings else _stripped(series, missing) for series in frame]
        frame = pl.DataFrame(columns)
    if use_comma:
        notes += ("numbers are read with decimal commas",)
    if unnamed and frame.width > 1 and _is_row_counter(frame[:, 0]):
        return frame[:, 1:], (*notes, "the first column has no name and contains the row numbers; not used")
    return frame, notes


def _stripped(series: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Strip a string column, and convert it to numbers if all values are numbers."""
    import polars as pl

    if series.dtype != pl.String:
        return series
    stripped = series.str.strip_chars()
    stripped = stripped.set(stripped.is_in(list(missing)), None)
    for kind in (pl.Int64, pl.Int128, pl.Float64):
        numbers = stripped.cast(kind, strict=False)
        if numbers.null_count() == stripped.null_count():
            return numbers
    return stripped


def _has_decimal_commas(series: pl.Series) -> bool:
    import polars as pl

    if series.dtype != pl.String or series.null_count() == len(series):
        return False
    return bool(series.drop_nulls().str.contains(r"^\s*[+-]?\d+(,\d+)?\s*$").all())


def _is_row_counter(series: pl.Series) -> bool:
    """Return whether a column contains 0, 1, 2, ... or 1, 2, 3, ..."""
    if not series.dtype.is_integer() or series.null_count():
        return False
    values = series.to_numpy()
    return bool(values[0] in (0, 1) and (np.diff(values) == 1).all())


def _header(path: Path, head: bytes) -> tuple[list[str], str]:
    """Return the column names and the separator."""
    try:
        lines = head.decode("utf-8-sig", errors="ignore").lstrip("\n\r").split("\n", 50)
        separator = (
            "\t" if path.suffix.lower() == ".tsv" else max(_SEPARATORS, key=lambda one: lines[0].count(one))
        )
        return next(csv.reader(io.StringIO("\n".join(lines)), delimiter=separator)), separator
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


def _ragged_error(path: Path, widths: list[int], expected: int) -> DataError | None:
    wrong = [at for at, width in enumerate(widths) if width not in (0, expected)]
    if not wrong:
        return None
    shown = "; ".join(f"record {at + 1} has {widths[at]}" for at in wrong[:3]) + (
        " ..." if len(wrong) > 3 else ""
    )
    return DataError(
        f"{path} is ragged: the header has {expected} fields, {shown}; "
        "check for separators inside values (quote them) and for lines that were cut off"
    )


def _text_file_error(
    path: Path, source: Path | bytes, separator: str, expected: int, cause: Exception
) -> DataError:
    try:
        error = _ragged_error(path, _record_widths(source, separator), expected)
    except UnicodeDecodeError as where:
        return DataError(
            f"{path} is not UTF-8 text (byte {where.start}); convert it, or save it as CSV in UTF-8"
        )
    except csv.Error as where:
        return DataError(f"{path}: cannot be read as CSV: {where}")
    return error or DataError(
        f"{path}: cannot be read as CSV: {str(cause).splitlines()[0] if str(cause) else cause!r}"
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
    error = _ragged_error(path, widths, frame.width)
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


def _read_parquet(
    path: Path, missing: Sequence[str], strings: Sequence[str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    import polars as pl

    return _binary(path, "Parquet", lambda: pl.read_parquet(path, glob=False, hive_partitioning=False)), ()


def _read_arrow(
    path: Path, missing: Sequence[str], strings: Sequence[str]
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    import polars as pl

    with path.open("rb") as file:
        reader = pl.read_ipc if file.read(6) == b"ARROW1" else pl.read_ipc_stream

    def parse() -> pl.DataFrame:
        with path.open("rb") as file:  # polars would interpret a path as a glob pattern
            return reader(file)

    return _binary(path, "Arrow", parse), ()


def _binary(path: Path, file_format: str, read: Callable[[], pl.DataFrame]) -> pl.DataFrame:
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty")
    frame = read_or_raise(path, file_format, read)
    if frame.height == 0:
        raise DataError(f"{path} has no rows")
    return frame


Reader = Callable[[Path, Sequence[str], Sequence[str]], "tuple[pl.DataFrame, tuple[str, ...]]"]
TABLES: dict[str, Reader] = {
    ".csv": _read_text_file, ".tsv": _read_text_file, ".txt": _read_text_file,
    ".parquet": _read_parquet, ".pq": _read_parquet,
    ".arrow": _read_arrow, ".feather": _read_arrow, ".ipc": _read_arrow,
}  # fmt: skip
"""Readers of table files by the suffix of the file."""
