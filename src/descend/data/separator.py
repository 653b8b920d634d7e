"""The separator of a text file, found from the header and the first rows."""

from __future__ import annotations

import csv
import io
import itertools
import re

from descend.interface import setting

__all__ = ["SEPARATORS", "declared_separator", "find_separator", "separator_option"]

SEPARATORS = (",", ";", "\t", "|")
"""Separators that are recognized without being specified."""
_RECORDS = 100  # rows that are compared
_DECLARATION = re.compile(r'\s*"?sep=([^\r\n"])"?[ ,;\t]*(?:\r\n|\n|\r)', re.IGNORECASE)
_NUMBER = re.compile(r"\s*[+-]?[\d.,]+\s*")


def declared_separator(text: str) -> tuple[str, int] | None:
    r"""Return the separator that the first line of a text declares, and the length of this line.

    Excel writes such a line, and shows the file as a table without it.

    >>> declared_separator("sep=;\na;b\n")
    (';', 6)
    """
    match = _DECLARATION.match(text)
    return None if match is None else (match[1], match.end())


def find_separator(text: str, *, complete: bool = True) -> str:
    r"""Return the separator that divides the header and the rows of a text into equal numbers of fields.

    Separators within quotes do not count. If several separators divide the rows equally, the result is the one whose
    fields contain no other separator, except in numbers; then the one with more fields.

    Args:
        text: the beginning of a file, header first.
        complete: whether the text is the whole file, so that its last row is not cut off.

    >>> find_separator("area (m2, net);price\n1,5;2\n")
    ';'
    """
    tables = {separator: _records(text, separator, complete) for separator in SEPARATORS}
    best = max(SEPARATORS, key=lambda separator: _fit(tables[separator], separator))
    if _fit(tables[best], best)[0] > 0:
        return best
    header = next(iter(text.lstrip("\r\n").splitlines()), "")
    rows = [row for table in tables.values() for row in table[1:]]
    if rows and all(len(row) == 1 and _NUMBER.fullmatch(row[0]) for row in rows):  # a single column
        return next((separator for separator in SEPARATORS if separator not in header), ",")
    return max(SEPARATORS, key=header.count)


def separator_option(separator: str) -> str:
    """Return a sentence for messages: the separator that was used, and the setting of another one."""
    other = ";" if separator != ";" else ","
    return f"the separator is {separator!r} (another one: {setting('data.separator', other)})"


def _records(text: str, separator: str, complete: bool) -> list[list[str]]:
    """Return the first records that are not blank, the header first."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        records = list(itertools.islice(reader, _RECORDS + 1))
    except csv.Error:
        return []
    if not complete and len(records) <= _RECORDS:
        records = records[:-1]
    return [record for record in records if len(record) > 1 or "".join(record).strip()]


def _fit(records: list[list[str]], separator: str) -> tuple[float, float, int]:
    """Return the share of rows with as many fields as the header, the share of unambiguous fields, the number of fields."""
    width = len(records[0]) if records else 0
    if width < 2:
        return 0.0, 0.0, 0
    rows = [row for row in records[1:] if len(row) == width]
    others = [other for other in SEPARATORS if other != separator]
    fields = [field for row in rows for field in row]
    plain = [
        field for field in fields if _NUMBER.fullmatch(field) or not any(other in field for other in others)
    ]
    return len(rows) / max(1, len(records) - 1), len(plain) / max(1, len(fields)), width
