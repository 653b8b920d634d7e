"""Character encodings of text files: a byte order mark or ``data.encoding`` decides, and otherwise UTF-8 is required."""

from __future__ import annotations

import codecs
import re

from descend.errors import DataError, did_you_mean
from descend.interface import setting

__all__ = [
    "COMMON",
    "as_utf8",
    "check_encoding",
    "encoding_option",
    "marked_encoding",
    "not_text",
    "not_utf8",
]

COMMON = (
    "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1250", "cp1251", "cp1252", "cp1253", "cp1254",
    "cp437", "cp850", "iso-8859-2", "iso-8859-15", "koi8-r", "mac-roman", "shift_jis", "euc-jp", "euc-kr", "gb18030",
    "big5",
)  # fmt: skip
"""Encodings that messages suggest; ``data.encoding`` takes any that Python has."""

_MARKS = (  # that of UTF-32 starts with that of UTF-16
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_SHOWN = 20  # characters on each side of an invalid byte in a message


def check_encoding(encoding: str) -> None:
    """Raise a DataError if Python has no text encoding of this name; ``auto`` is one."""
    if encoding == "auto":
        return
    try:
        "".encode(encoding)
    except (LookupError, ValueError) as cause:
        raise DataError(
            f"data.encoding: unknown encoding {encoding!r}; {did_you_mean(encoding, COMMON)}"
        ) from cause


def marked_encoding(head: bytes) -> tuple[str, int] | None:
    r"""Return the encoding that a byte order mark declares, and the length of the mark; None without a mark.

    >>> marked_encoding("a,b".encode("utf-16")), marked_encoding(b"a,b")
    (('utf-16-le', 2), None)
    """
    return next(((encoding, len(mark)) for mark, encoding in _MARKS if head.startswith(mark)), None)


def encoding_option(encoding: str) -> str:
    """Return how to declare an encoding, for a message.

    >>> encoding_option("cp1252")
    "{'data.encoding': 'cp1252'}"
    """
    return setting("data.encoding", encoding)


def as_utf8(
    name: str, content: bytes, encoding: str, *, expected: str = "auto"
) -> tuple[bytes, tuple[str, ...]]:
    r"""Return the content of a text file as UTF-8 without a byte order mark, and remarks for the user.

    A byte order mark decides. Otherwise ``encoding`` decides; if that is ``auto``, the file must be valid UTF-8, or else
    is in the ``expected`` encoding.

    Args:
        name: the file, for messages.
        content: all of its bytes.
        encoding: a name of a Python encoding, or ``auto``.
        expected: the encoding of a file that is not UTF-8, or ``auto`` if there is no such expectation.

    >>> as_utf8("a.csv", "Zürich".encode("cp1252"), "cp1252")[0].decode()
    'Zürich'

    Raises:
        DataError: the bytes are not valid in the encoding; the message names the line and the setting.
    """
    check_encoding(encoding)
    mark = marked_encoding(content)
    if mark is not None:
        content = content[mark[1] :]
        if mark[0] == "utf-8":
            return content, ()
        return _decoded(name, content, mark[0]), (f"the file is read as {mark[0].upper()} (byte order mark)",)
    if encoding == "auto" and expected == "auto":
        return content, ()
    if encoding == "auto":
        if _is_utf8(content) and b"\x00" not in content:
            return content, ()
        return _decoded(name, content, expected), (f"the file is read as {expected}, as in training",)
    decoded = _decoded(name, content, encoding)
    if decoded != content and _is_utf8(content) and b"\x00" not in content:
        note = f"the file is valid UTF-8, but is read as {encoding} (data.encoding); check the letters with accents"
        return decoded, (note,)
    return decoded, ()


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _decoded(name: str, content: bytes, encoding: str) -> bytes:
    """Return the content as UTF-8."""
    try:
        return content.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as cause:
        line = content[: cause.start].decode(encoding, "replace").count("\n") + 1
        raise DataError(
            f"{name}: line {line} is not valid {encoding} (byte {cause.start}: 0x{content[cause.start]:02X}); "
            f"specify the encoding of the file ({encoding_option('cp1252')}, for example), or save it as UTF-8"
        ) from cause


def not_utf8(name: str, content: bytes, *, complete: bool = True) -> DataError | None:
    """Return the error of a text file that is not UTF-8: the line, how it reads in cp1252, and the setting; or None.

    Args:
        name: the file.
        content: its bytes.
        complete: whether these are all of its bytes, so that the last character is not cut off.
    """
    try:
        codecs.getincrementaldecoder("utf-8")().decode(content, final=complete)
    except UnicodeDecodeError as cause:
        at = cause.start
    else:
        return None
    line = content.count(b"\n", 0, at) + 1
    around = (
        content[content.rfind(b"\n", 0, at) + 1 : at][-_SHOWN:]
        + re.split(rb"[\r\n]", content[at:])[0][:_SHOWN]
    )
    likely = "cp1252" if _decodes(around, "cp1252") else "latin-1"
    return DataError(
        f"{name}: line {line} is not UTF-8 text (byte {at}: 0x{content[at]:02X}); in the encoding {likely} it reads "
        f"{around.decode(likely)!r}. If that is right, specify {encoding_option(likely)}; otherwise specify the encoding "
        "of the file, or save it as UTF-8"
    )


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def not_text(name: str, content: bytes) -> DataError:
    """Return the error of a file with NUL bytes: UTF-16 without a byte order mark, a damaged text, or a binary file."""
    zeros = [content[start : 1 << 12 : 2].count(0) for start in (0, 1)]
    half = max(1, len(content[: 1 << 12]) // 2)
    if max(zeros) > 0.6 * half and min(zeros) < 0.2 * half:
        likely = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
        return DataError(
            f"{name} is not UTF-8 text; it looks like UTF-16 without a byte order mark; specify {encoding_option(likely)}"
        )
    line = content.count(b"\n", 0, content.find(b"\x00")) + 1
    return DataError(
        f"{name} is not UTF-8 text: line {line} contains a NUL byte, as binary files do; save the table as CSV in UTF-8, "
        "or remove the NUL bytes"
    )
