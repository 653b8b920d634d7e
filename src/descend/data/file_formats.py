"""The format of a table file, recognized by its first bytes."""

from __future__ import annotations

import re
from pathlib import Path

from descend.errors import DataError

__all__ = ["refuse_other_format", "suffix_of"]

_FORMATS = {".parquet": "a Parquet table", ".arrow": "an Arrow table", ".json": "JSON", ".xlsx": "a workbook"}
_RECORD = re.compile(rb"(\xef\xbb\xbf)?\s*\[?\s*\{\s*\"")
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|body|table)\b", re.IGNORECASE)
_TEXT = re.compile(rb"[\t\n\r\x20-\x7e\xa0-\xff]+")
_HEAD = 256  # bytes in which a format is recognized


def refuse_other_format(path: Path, suffix: str, content: bytes | None) -> None:
    """Raise a DataError if a file contains another format than its suffix says."""
    is_text = suffix in (".csv", ".tsv", ".txt")
    if suffix in (".json", ".jsonl", ".ndjson"):
        return
    if content is None:
        with path.open("rb") as file:
            content = file.read(_HEAD)
    head = content[:_HEAD]
    found = suffix_of(head)
    if found == ".csv" and _HTML.match(head):
        raise DataError(
            f"{path} contains a page of HTML, and not the table that its suffix {suffix} says; save the table as "
            "CSV or as a workbook"
        )
    if is_text and found == ".json" and not _RECORD.match(head):
        return  # a title that begins with a bracket
    if is_text and found != ".csv":
        raise DataError(
            f"{path} contains {_FORMATS[found]}, and not the text that its suffix {suffix} says; rename it to end in {found}"
        )
    if not is_text and found in (".csv", ".json") and _TEXT.fullmatch(head):
        raise DataError(
            f"{path} contains text, and not what its suffix {suffix} says; rename it to end in {found}, or save it again"
        )


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
