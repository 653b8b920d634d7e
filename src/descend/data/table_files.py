"""Table files: CSV, TSV, JSON, Parquet, Arrow and Excel, possibly compressed."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from descend.data.compression import COMPRESSED, compression_of, decompress, inner_suffix
from descend.data.encodings import as_utf8, check_encoding, marked_encoding, not_text, not_utf8
from descend.data.json_files import frame_of_json
from descend.data.messages import listed
from descend.data.number_format import Decimal, Mark
from descend.data.separator import declared_separator, find_separator, separator_option
from descend.data.settings import MISSING, Missing, Separator
from descend.data.streaming import read_or_raise
from descend.data.text_cells import typed
from descend.data.titles import unique_names
from descend.data.workbooks import WORKBOOKS, frame_of_workbook
from descend.errors import DataError

if TYPE_CHECKING:
    import polars as pl

__all__ = ["TABLES", "Table", "read_table", "suffix_of"]

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
        suffix = inner_suffix(path)
        with nullcontext(BytesIO(content)) if content is not None else path.open("rb") as file:
            compression = compression_of(file.read(8))
        named = path.suffix.lower() if path.suffix.lower() in COMPRESSED else None
        if named is not None or (compression is not None and suffix in _TEXT):
            whole = path.read_bytes() if content is None else content
            content, member = decompress(str(path), whole, named or str(compression))
            suffix = Path(member).suffix.lower() or suffix
        if suffix == "" and content is not None:
            suffix = suffix_of(content)
        if suffix not in TABLES:
            raise DataError(
                f"{path}: expected a table ending in {listed(TABLES, 20)}, got {suffix or path.name!r}"
            )
        text_format = _TextFormat(
            missing,
            strings,
            labels,
            separator,
            decimal,
            typed,
            encoding,
            expected_encoding,
            sheet,
            content,
            suffix,
        )
        table = TABLES[suffix](path, text_format)
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
        is_text: whether the file is a text file, whose cells are strings unless they were converted.
    """

    frame: pl.DataFrame
    notes: tuple[str, ...] = ()
    decimal: Decimal = "auto"
    prior: Mark | None = "point"
    is_text: bool = False


def suffix_of(content: bytes) -> str:
    r"""Return the suffix of the format that some content has: Parquet, Arrow, Excel or JSON, and CSV otherwise.

    >>> suffix_of(b"PAR1..."), suffix_of(b' [{"a": 1}]'), suffix_of(b"a,b\n1,2\n")
    ('.parquet', '.json', '.csv')
    """
    if content.startswith(b"PAR1"):
        return ".parquet"
    if content.startswith((b"ARROW1", b"\xff\xff\xff\xff")):
        return ".arrow"
    if content.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
        return ".xlsx"
    return ".json" if content[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{") else ".csv"


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
    source, head, encoding_notes = _text(path, text_format)
    if b"\r" in head and b"\n" not in head:
        content = path.read_bytes() if isinstance(source, Path) else source
        source = head = content.replace(b"\r", b"\n")
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
    elif text_format.suffix == ".tsv" and "\t" in text.split("\n", 1)[0]:
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
    notes = (*encoding_notes, *notes)
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


def _text(path: Path, text_format: _TextFormat) -> tuple[Path | bytes, bytes, tuple[str, ...]]:
    """Return a text file, or its content as UTF-8 if it is not UTF-8 on disk; its beginning; and remarks."""
    content, name = text_format.content, str(path)
    if content is None:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    else:
        head = content[:_HEAD_BYTES]
    notes: tuple[str, ...] = ()
    mark = marked_encoding(head)
    check_encoding(text_format.encoding)
    if {text_format.encoding, text_format.expected_encoding} != {"auto"} or (mark and mark[0] != "utf-8"):
        content = path.read_bytes() if content is None else content
        content, notes = as_utf8(name, content, text_format.encoding, expected=text_format.expected_encoding)
        head = content[:_HEAD_BYTES]
    if not head.strip():
        raise DataError(f"{path} is empty; expected a header line and rows")
    if b"\x00" in head:
        raise not_text(name, head)
    fault = not_utf8(name, head, complete=len(head) < _HEAD_BYTES)
    if fault is not None:
        raise fault
    return path if content is None else content, head, notes


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
    fault = not_utf8(str(path), source if isinstance(source, bytes) else source.read_bytes())
    if fault is not None:
        return fault
    try:
        error = _ragged_error(path, _record_widths(source, separator), expected, separator)
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

    def parse() -> pl.DataFrame:
        if text_format.content is not None:
            return pl.read_parquet(BytesIO(text_format.content))
        return pl.read_parquet(path, glob=False, hive_partitioning=False)

    return Table(_binary(path, "Parquet", parse, text_format))


def _read_arrow(path: Path, text_format: _TextFormat) -> Table:
    import polars as pl

    def opened() -> BinaryIO:  # polars would interpret a path as a glob pattern
        return path.open("rb") if text_format.content is None else BytesIO(text_format.content)

    with opened() as file:
        reader = pl.read_ipc if file.read(6) == b"ARROW1" else pl.read_ipc_stream

    def parse() -> pl.DataFrame:
        with opened() as file:
            return reader(file)

    return Table(_binary(path, "Arrow", parse, text_format))


def _read_json(path: Path, text_format: _TextFormat) -> Table:
    content = path.read_bytes() if text_format.content is None else text_format.content
    content, notes = as_utf8(str(path), content, text_format.encoding, expected=text_format.expected_encoding)
    return Table(frame_of_json(str(path), content), notes)


def _read_workbook(path: Path, text_format: _TextFormat) -> Table:
    content = path.read_bytes() if text_format.content is None else text_format.content
    return Table(*frame_of_workbook(str(path), content, text_format.sheet))


def _binary(
    path: Path, file_format: str, read: Callable[[], pl.DataFrame], text_format: _TextFormat
) -> pl.DataFrame:
    if not (path.stat().st_size if text_format.content is None else text_format.content):
        raise DataError(f"{path} is empty")
    frame = read_or_raise(path, file_format, read)
    if frame.height == 0:
        raise DataError(f"{path} has no rows")
    return frame


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
