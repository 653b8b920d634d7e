"""Where the table of a text file begins: encoding, lines before the header, separator, header."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from descend.data.encodings import as_utf8, check_encoding, marked_encoding, not_text, not_utf8
from descend.data.messages import listed
from descend.data.separator import declared_separator, find_separator
from descend.data.settings import Separator
from descend.errors import DataError
from descend.process import exclusive

__all__ = ["TextFile", "open_text", "records"]

_HEAD_BYTES = 1 << 20  # size of the beginning of a file, in which the header is expected
_RECORDS = 100  # rows that are compared with the header
_MARK = b"\xef\xbb\xbf"  # byte order mark of UTF-8
_LONE_RETURN = re.compile(rb'"[^"]*"|\r(?!\r*\n)')  # an end of line of its own; within quotes it is none
_BLANK = " \t\r\n,;|\"'"  # what a line without any field consists of
_NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


@dataclass(frozen=True)
class TextFile:
    """A text file whose first record is the header.

    Args:
        source: the path, or the content in UTF-8 from the header on if that differs from the file.
        separator: the character between fields.
        header: the fields of the header.
        skipped: number of lines before the content of ``source``.
        notes: remarks for the user.
    """

    source: Path | bytes
    separator: str
    header: list[str]
    skipped: int
    notes: tuple[str, ...]


def open_text(
    path: Path,
    content: bytes | None = None,
    *,
    separator: Separator = "auto",
    encoding: str = "auto",
    expected_encoding: str = "auto",
    tabs: bool = False,
) -> TextFile:
    """Find the header of a text file.

    Lines without any field before the header are skipped, and lines that begin with ``#``, unless the last of those has
    as many fields as the next line: it is then the header. Separators at the end of all rows, or only of the header, are
    ignored.

    Args:
        path: the file; it only names it if ``content`` is specified.
        content: all of its bytes, if they are in memory.
        separator: the character between fields; ``auto`` finds it.
        encoding: the encoding of a file without a byte order mark; ``auto`` requires UTF-8.
        expected_encoding: the encoding of a file that is not UTF-8 if ``encoding`` is ``auto``.
        tabs: whether the suffix suggests tabs.

    Raises:
        DataError: the file is empty, not text, or in an unknown encoding.
    """
    file = _Opened(path, content)
    notes = file.decode(encoding, expected_encoding)
    if any(match[0] == b"\r" for match in _LONE_RETURN.finditer(file.head)):
        file.replace(_LONE_RETURN.sub(lambda match: b"\n" if match[0] == b"\r" else match[0], file.content))
    declared = declared_separator(file.text)
    skipped = 0
    if declared is not None:
        file.replace(file.content.removeprefix(_MARK)[len(declared[0].encode()) - 1 + declared[1] :])
        skipped = 1
    comments = _comments(file.text, separator)
    if comments:
        lines = file.text.splitlines(keepends=True)[:comments]
        shown = next((line.strip() for line in lines if line.strip()), "")
        file.replace(file.content.removeprefix(_MARK)[len("".join(lines).encode()) :])
        skipped += comments
        notes += (f"{comments} {'line' if comments == 1 else 'lines'} before the header {'is' if comments == 1 else 'are'} "
                  f"skipped ({listed([shown])})",)  # fmt: skip
    text = file.text.lstrip("\r\n")
    if separator != "auto":
        found: str = separator
    elif declared is not None and len(declared[0].encode()) == 1:
        found = declared[0]
    elif tabs and "\t" in text.split("\n", 1)[0]:
        found = "\t"
    else:
        found = find_separator(text, complete=file.complete)
    header, lines_of_header = _header(path, text, found)
    change = _trailing(text, header, found, complete=file.complete)
    if change:
        before = file.text[: len(file.text) - len(text)]
        end = _end_of_line(text, lines_of_header)
        line = text[:end].rstrip()
        edited = line + found if change > 0 else line[: line.rindex(found)]
        rest = file.content.removeprefix(_MARK)[len((before + text[:end]).encode()) :]
        file.replace((before + edited + text[len(text[:end].rstrip("\r\n")) : end]).encode() + rest)
        header = [*header, ""] if change > 0 else header[:-1]
    if header[0].lstrip().startswith("#"):
        header[0] = header[0].lstrip().removeprefix("#")
    if len(header) > 1 and all(_NUMBER.fullmatch(field) for field in header):
        notes += (
            f"the first line, taken for the header, consists of numbers ({listed(header, 3)}); "
            "if the file has no header line, add one",
        )
    return TextFile(file.source, found, header, skipped, notes)


class _Opened:
    """A file that stays on disk until its content has to be changed."""

    def __init__(self, path: Path, content: bytes | None) -> None:
        self.path, self._content = path, content
        if content is None:
            with path.open("rb") as file:
                self.head = file.read(_HEAD_BYTES)
        else:
            self.head = content[:_HEAD_BYTES]

    @property
    def source(self) -> Path | bytes:
        return self.path if self._content is None else self._content

    @property
    def content(self) -> bytes:
        return self.path.read_bytes() if self._content is None else self._content

    @property
    def complete(self) -> bool:
        """Whether the head is the whole file."""
        return len(self.head) < _HEAD_BYTES

    @property
    def text(self) -> str:
        """The beginning of the file, without a character that is cut off."""
        return self.head.decode("utf-8-sig", errors="ignore")

    def replace(self, content: bytes) -> None:
        self._content, self.head = content, content[:_HEAD_BYTES]

    def decode(self, encoding: str, expected: str) -> tuple[str, ...]:
        notes: tuple[str, ...] = ()
        name, mark = str(self.path), marked_encoding(self.head)
        check_encoding(encoding)
        if {encoding, expected} != {"auto"} or (mark and mark[0] != "utf-8"):
            content, notes = as_utf8(name, self.content, encoding, expected=expected)
            self.replace(content)
        if not self.head.removeprefix(_MARK).strip():
            raise DataError(f"{name} is empty; expected a header line and rows")
        if b"\x00" in self.head:
            raise not_text(name, self.head)
        fault = not_utf8(name, self.head, complete=self.complete)
        if fault is not None:
            raise fault
        return notes


def _comments(text: str, separator: Separator) -> int:
    """Return the number of lines before the header: those that begin with ``#``, and those without any field.

    It is 0 if they are only ends of lines, which every reader skips.
    """
    lines = text.splitlines(keepends=True)[: 10 * _RECORDS]
    last = at = -1
    for at, line in enumerate(lines):
        if line.lstrip().startswith("#"):
            last = at
        elif line.strip(_BLANK):
            break
    if last < 0:
        is_row = bool(lines) and lines[at].strip(_BLANK) != ""
        return at if is_row and "".join(lines[:at]).strip("\r\n") else 0
    if at == last:
        return 0
    rest = "".join(lines[at:])
    found = find_separator(rest, complete=False) if separator == "auto" else separator
    widths = [len(next(csv.reader([line], delimiter=found), [])) for line in (lines[last], lines[at])]
    if widths[0] == widths[1] > 1:
        return last
    return at if "".join(lines[last + 1 : at]).strip("\r\n") else last + 1


def _header(path: Path, text: str, separator: str) -> tuple[list[str], int]:
    """Return the fields of the header, and the number of its lines."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        return next(reader), reader.line_num
    except (csv.Error, StopIteration) as cause:
        raise DataError(f"{path}: the header line cannot be read: {cause}") from cause


def _trailing(text: str, header: list[str], separator: str, *, complete: bool) -> int:
    """Return 1 if all rows but not the header end with a separator, -1 if only the header does, and 0 otherwise."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        first = list(islice(reader, 1, _RECORDS + 1))
    except csv.Error:
        return 0
    if not complete and len(first) < _RECORDS:
        first = first[:-1]  # it is cut off
    rows = [row for row in first if len(row) > 1 or "".join(row).strip()]
    if not rows or separator.isspace():
        return 0
    if header[-1].strip() and all(len(row) == len(header) + 1 and not row[-1].strip() for row in rows):
        return 1
    if len(header) > 2 and not header[-1].strip() and all(len(row) == len(header) - 1 for row in rows):
        return -1
    return 0


def _end_of_line(text: str, number: int) -> int:
    """Return the index after a number of lines."""
    return len("".join(io.StringIO(text, newline="").readlines()[:number]))


def records(source: Path | bytes, separator: str, skipped: int = 0) -> tuple[list[int], list[int]]:
    r"""Return the number of fields and the first line of each record, the header first; a blank line has 0 fields.

    Args:
        source: the path or the content of a file in UTF-8.
        separator: the character between fields.
        skipped: number of lines before the content.

    >>> records(b'a,b\n"two\nlines",1\n\n2,3\n', ",")
    ([2, 2, 0, 2], [1, 2, 4, 5])
    """
    content = source if isinstance(source, bytes) else source.read_bytes()
    text = content.decode("utf-8-sig")
    if "\r" in text and "\n" not in text:
        text = text.replace("\r", "\n")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    widths, lines, line = [], [], 1
    with exclusive():
        limit = csv.field_size_limit(2**31 - 1)
        try:
            for row in reader:
                widths.append(len(row))
                lines.append(line + skipped)
                line = reader.line_num + 1
        finally:
            csv.field_size_limit(limit)
    return widths, lines
