"""Table files: CSV, TSV, JSON, Parquet, Arrow and Excel, possibly compressed."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from descend.data.arrow_orders import read_by_pyarrow, with_orders_of_arrow_file, with_orders_of_parquet_file
from descend.data.compression import COMPRESSED, compression_of, decompress, inner_suffix
from descend.data.encodings import as_utf8, not_utf8
from descend.data.file_formats import refuse_other_format, suffix_of
from descend.data.json_files import frame_of_json, lines_of_json
from descend.data.messages import listed
from descend.data.nested_columns import flat_frame
from descend.data.number_format import Mark
from descend.data.separator import separator_option
from descend.data.settings import MISSING, Decimal, Missing, Separator
from descend.data.streaming import read_or_raise
from descend.data.text_cells import typed
from descend.data.text_files import TextFile, open_text, records
from descend.data.titles import unique_names
from descend.data.workbooks import WORKBOOKS, frame_of_workbook, is_workbook
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TABLES", "Table", "line_numbers", "read_table"]

_PRIOR: dict[str, Mark] = {",": "point"}  # a comma that separates fields is rarely the decimal mark


def read_table(
    path: Path,
    *,
    missing: Missing = MISSING,
    strings: Sequence[str] = (),
    labels: Sequence[str] = (),
    separator: Separator = "auto",
    decimal: Decimal = "auto",
    typed: bool = True,
    encoding: str = "auto",
    expected_encoding: str = "auto",
    sheet: str = "auto",
    content: bytes | None = None,
) -> Table:
    """Read the table in a file.

    Args:
        path: a file whose suffix is one of :data:`TABLES`, possibly followed by that of a compression
            (:data:`~descend.data.compression.COMPRESSED`).
        missing: strings that stand for a missing value in text files.
        strings: columns of a text file to read as strings even if they look like numbers (postal codes).
        labels: columns of a text file in which strings for missing values stay, unless they contain numbers.
        separator: the character between the fields of a text file; ``auto`` finds it.
        decimal: the decimal mark of a text file; ``auto`` finds it.
        typed: whether to convert columns of a text file to numbers and booleans; otherwise all cells stay strings.
        encoding: the encoding of a text file without a byte order mark; ``auto`` requires UTF-8.
        expected_encoding: the encoding of a text file that is not UTF-8 if ``encoding`` is ``auto``.
        sheet: the sheet of a workbook; ``auto`` reads the first one.
        content: the bytes of the file if they have been read already; ``path`` then only names it.

    Raises:
        DataError: the file is empty, damaged, ragged, in an unknown encoding, or has duplicate column names.
    """
    try:
        suffix, content = _located(path, content)
        refuse_other_format(path, suffix, content)
        text_format = _TextFormat(
            missing, strings, labels, separator, decimal, typed, encoding, expected_encoding, sheet, content, suffix
        )  # fmt: skip
        table = TABLES[suffix](path, text_format)
        titles = unique_names(table.frame.columns, str(path))
        frame = table.frame.rename(dict(zip(table.frame.columns, titles, strict=True)))
        return table._replace(frame=flat_frame(frame))
    except OSError as cause:
        raise DataError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


class Table(NamedTuple):
    """The table in a file.

    Args:
        frame: the columns.
        notes: remarks for the user.
        decimal: the decimal mark of a text file; ``auto`` if none occurs.
        prior: the decimal mark to expect in the file, if its separator is a reason for it.
        is_text: whether the file is a text file, whose cells are strings unless they were converted.
    """

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    decimal: Decimal = "auto"
    prior: Mark | None = "point"
    is_text: bool = False


def _located(path: Path, content: bytes | None) -> tuple[str, bytes | None]:
    """Return the suffix of a table, and its content unless the file can be read as it is."""
    suffix = inner_suffix(path)
    with nullcontext(BytesIO(content)) if content is not None else path.open("rb") as file:
        compression = compression_of(file.read(8))
    named = path.suffix.lower() if path.suffix.lower() in COMPRESSED else None
    packed = named or (compression if suffix in ("", *_TEXT) else None)
    if packed is not None:
        whole = path.read_bytes() if content is None else content
        if packed == ".zip" and is_workbook(whole):
            return suffix or ".xlsx", whole
        content, member = decompress(str(path), whole, packed)
        suffix = Path(member).suffix.lower() or suffix
    if suffix == "":
        content = path.read_bytes() if content is None else content
        suffix = suffix_of(content)
    if suffix not in TABLES:
        raise DataError(
            f"{path}: expected a table ending in {listed(TABLES, 30)}, got {suffix or path.name!r}"
        )
    return suffix, content


@dataclass(frozen=True)
class _TextFormat:
    """How a file is read: the arguments of :func:`read_table`, its content if that is in memory, and its suffix."""

    missing: Missing
    strings: Sequence[str]
    labels: Sequence[str]
    separator: Separator
    decimal: Decimal
    typed: bool
    encoding: str
    expected_encoding: str
    sheet: str
    content: bytes | None
    suffix: str


def _read_text_file(path: Path, text_format: _TextFormat) -> Table:
    import polars as pl

    strings = text_format.strings
    text = open_text(
        path, text_format.content, separator=text_format.separator, encoding=text_format.encoding,
        expected_encoding=text_format.expected_encoding, tabs=text_format.suffix == ".tsv",
    )  # fmt: skip
    source, separator, names = text.source, text.separator, text.header
    padded = any(name != name.strip() for name in names)
    unnamed = not names[0].strip()
    untitled = {f"column_{at}" for at, name in enumerate(names) if not name.strip()}
    names = [name.strip() or f"column_{at}" for at, name in enumerate(names)]
    unique_names(names, str(path))

    try:  # all cells as strings: what they mean is decided by columns as a whole
        frame = pl.read_csv(source, glob=False, separator=separator, new_columns=names, infer_schema=False)
    except (pl.exceptions.PolarsError, OSError, ValueError) as cause:
        raise _text_file_error(path, text, cause) from cause
    if frame.height == 0:
        raise DataError(f"{path} has a header line but no rows")
    frame, notes = _without_blank_lines(path, text, frame)
    notes = (*text.notes, *notes)
    frame = frame.select(one for one in frame if one.name not in untitled or one.null_count() < len(one))
    if frame.width == 1:
        notes += (f"the file has one column; {separator_option(separator)}",)
    if padded:  # the file has ", " between values
        frame = frame.with_columns(pl.exclude(list(strings)).str.strip_chars())
    result = Table(frame, notes, text_format.decimal, _PRIOR.get(separator), is_text=True)
    return _with_types(result, path, text_format, unnamed=unnamed) if text_format.typed else result


def _with_types(table: Table, path: Path, text_format: _TextFormat, *, unnamed: bool) -> Table:
    """Convert the cells of a text file to numbers and booleans; leave out a first column of row numbers."""
    result = typed(
        table.frame, missing=text_format.missing, strings=text_format.strings, labels=text_format.labels,
        decimal=text_format.decimal, prior=table.prior, where=str(path),
    )  # fmt: skip
    frame, notes = result.frame, (*table.notes, *result.notes)
    if unnamed and frame.width > 1 and _is_row_counter(frame[:, 0]):
        frame = frame[:, 1:]
        notes += ("the first column has no name and contains the row numbers; not used",)
    return table._replace(frame=frame, notes=notes, decimal=result.decimal)


def _is_row_counter(series: pl.Series) -> bool:
    """Return whether a column contains 0, 1, 2, ... or 1, 2, 3, ..."""
    if not series.dtype.is_integer() or series.null_count():
        return False
    values = series.to_numpy()
    return bool(values[0] in (0, 1) and (np.diff(values) == 1).all())


def line_numbers(
    path: Path,
    *,
    separator: Separator = "auto",
    encoding: str = "auto",
    expected_encoding: str = "auto",
    content: bytes | None = None,
) -> list[int]:
    """Return the line of the file in which each row of :func:`read_table` begins; empty for formats without lines.

    The arguments are those of :func:`read_table`.
    """
    suffix, content = _located(path, content)
    if suffix in (".json", ".jsonl", ".ndjson"):
        found = path.read_bytes() if content is None else content
        return lines_of_json(as_utf8(str(path), found, encoding, expected=expected_encoding)[0])
    if suffix not in (".csv", ".tsv", ".txt"):
        return []
    text = open_text(
        path, content, separator=separator, encoding=encoding, expected_encoding=expected_encoding, tabs=suffix == ".tsv"
    )  # fmt: skip
    widths, lines = records(text.source, text.separator, text.skipped)
    header = next((at for at, width in enumerate(widths) if width), 0)
    kept = [line for width, line in zip(widths, lines, strict=True) if width or len(text.header) == 1]
    return kept[1:] if len(text.header) > 1 else kept[header + 1 :]


def _ragged_error(path: Path, text: TextFile, widths: list[int], lines: list[int]) -> DataError | None:
    expected, separator = len(text.header), text.separator
    wrong = [at for at, width in enumerate(widths) if width not in (0, expected)]
    if not wrong:
        return None
    shown = "; ".join(f"line {lines[at]} has {widths[at]}" for at in wrong[:3]) + (
        " ..." if len(wrong) > 3 else ""
    )
    others = {widths[at] for at in wrong}
    remedy = "check for separators inside values (quote them) and for lines that were cut off"
    if len(others) == 1 and len(wrong) + 1 >= sum(width > 0 for width in widths):
        remedy = f"remove the lines before the header, if line {lines[0]} is not the header, or {remedy}"
    return DataError(
        f"{path} is ragged: the header has {expected} field{'' if expected == 1 else 's'}, {shown}; "
        f"{separator_option(separator)}; {remedy}"
    )


def _text_file_error(path: Path, text: TextFile, cause: Exception) -> DataError:
    source = text.source
    fault = not_utf8(str(path), source if isinstance(source, bytes) else source.read_bytes())
    if fault is not None:
        return fault
    try:
        error = _ragged_error(path, text, *records(source, text.separator, text.skipped))
    except csv.Error as where:
        return DataError(f"{path}: cannot be read as CSV: {where}")
    return error or DataError(
        f"{path}: cannot be read as CSV: {str(cause).splitlines()[0] if str(cause) else cause!r}; "
        f"{separator_option(text.separator)}"
    )


def _without_blank_lines(
    path: Path, text: TextFile, frame: pl.DataFrame
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Remove rows that come from blank lines, and refuse records that are too short.

    polars fills short records with nulls, so a table without nulls in its last column has neither.
    """
    if frame.width < 2 or frame[:, -1].null_count() == 0:
        return frame, ()
    try:
        widths, lines = records(text.source, text.separator, text.skipped)
    except (csv.Error, UnicodeDecodeError):
        return frame, ()
    error = _ragged_error(path, text, widths, lines)
    if error:
        raise error
    while widths and widths[0] == 0:
        widths.pop(0)
    blank = np.array(widths[1:]) == 0
    if blank[frame.height :].all():  # polars makes no rows of blank lines at the end
        blank = blank[: frame.height]
    if len(blank) != frame.height or not blank.any():
        return frame, ()
    kept = frame.filter(~blank)
    if kept.height == 0:
        raise DataError(f"{path} has a header line but no rows")
    return kept, (f"{int(blank.sum())} blank lines are skipped",)


def _read_parquet(path: Path, text_format: _TextFormat) -> Table:
    import polars as pl

    source = path if text_format.content is None else text_format.content

    def parse() -> tuple[pl.DataFrame, tuple[str, ...]]:
        if isinstance(source, bytes):
            frame = pl.read_parquet(BytesIO(source))
        else:
            frame = pl.read_parquet(source, glob=False, hive_partitioning=False)
        return with_orders_of_parquet_file(frame, source)

    return Table(*_binary(path, "Parquet", parse, text_format))


def _read_arrow(path: Path, text_format: _TextFormat) -> Table:
    import polars as pl

    source = path if text_format.content is None else text_format.content

    def opened() -> BinaryIO:  # polars would interpret a path as a glob pattern
        return BytesIO(source) if isinstance(source, bytes) else source.open("rb")

    with opened() as file:
        reader = pl.read_ipc if file.read(6) == b"ARROW1" else pl.read_ipc_stream

    def parse() -> tuple[pl.DataFrame, tuple[str, ...]]:
        try:
            with opened() as file:
                frame = reader(file)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            found = read_by_pyarrow(source)
            if found is None:
                raise
            frame = found
        return with_orders_of_arrow_file(frame, source), ()

    return Table(*_binary(path, "Arrow", parse, text_format))


def _read_json(path: Path, text_format: _TextFormat) -> Table:
    content = path.read_bytes() if text_format.content is None else text_format.content
    content, notes = as_utf8(str(path), content, text_format.encoding, expected=text_format.expected_encoding)
    return Table(frame_of_json(str(path), content), notes)


def _read_workbook(path: Path, text_format: _TextFormat) -> Table:
    content = path.read_bytes() if text_format.content is None else text_format.content
    return Table(*frame_of_workbook(str(path), content, text_format.sheet))


def _binary(
    path: Path,
    file_format: str,
    read: Callable[[], tuple[pl.DataFrame, tuple[str, ...]]],
    text_format: _TextFormat,
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    if not (path.stat().st_size if text_format.content is None else text_format.content):
        raise DataError(f"{path} is empty")
    frame, notes = read_or_raise(path, file_format, read)
    if frame.height == 0:
        raise DataError(f"{path} has no rows")
    return frame, notes


Reader = Callable[[Path, _TextFormat], Table]
TABLES: dict[str, Reader] = {
    ".csv": _read_text_file, ".tsv": _read_text_file, ".txt": _read_text_file,
    ".parquet": _read_parquet, ".pq": _read_parquet,
    ".arrow": _read_arrow, ".arrows": _read_arrow, ".feather": _read_arrow, ".ipc": _read_arrow,
    ".json": _read_json, ".jsonl": _read_json, ".ndjson": _read_json,
    **dict.fromkeys(WORKBOOKS, _read_workbook),
}  # fmt: skip
"""Readers of table files by the suffix of the file, without that of a compression."""
_TEXT = (".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson")
