"""The standard streams of a command: they exist and accept every character."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

__all__ = ["standard_streams"]

ASCII = {
    "−": "-", "–": "-", "—": "-", "‑": "-", "×": "x", "·": "*", "•": "*", "…": "...", "≤": "<=", "≥": ">=", "≠": "!=",
    "≈": "~", "±": "+/-", "→": "->", "←": "<-", "↑": "^", "↓": "v", "µ": "u", "μ": "u", "²": "2", "³": "3", "°": " deg",
    "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "√": "sqrt", "∞": "inf", "∈": "in", "∑": "sum", "∇": "grad",
    "✓": "ok", "✔": "ok", "✗": "x", "✘": "x", "\xa0": " ", "\u2009": " ", "\u202f": " ", "ß": "ss",
    "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "é": "e", "è": "e", "‖": "||",
}  # fmt: skip
"""What replaces characters that an encoding lacks. Box drawing and blocks are replaced by -, |, + and #."""


@contextmanager
def standard_streams() -> Iterator[None]:
    """Context in which the standard streams exist and accept every character.

    A stream that was closed (``>&-``) discards what is written; its number is not given to the next file that is opened.
    A character that the encoding of a stream lacks is replaced by ASCII.
    """
    _open_closed()
    before = sys.stdin, sys.stdout, sys.stderr
    opened: list[IO[str]] = []
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            opened.append(os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
            setattr(sys, name, opened[-1])
    errors = [(stream, _replacing(stream)) for stream in (sys.stdout, sys.stderr)]
    try:
        yield
    finally:
        for stream, previous in errors:
            if previous is not None:
                with suppress(OSError, ValueError):
                    stream.reconfigure(errors=previous)  # type: ignore[union-attr]  # a TextIOWrapper
        sys.stdin, sys.stdout, sys.stderr = before
        for each in opened:
            each.close()


def _open_closed() -> None:
    """Open the null device under the numbers 0, 1 and 2 that are closed."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):
                file = os.open(os.devnull, os.O_RDWR)
                if file != number:
                    os.dup2(file, number)
                    os.close(file)


def _replacing(stream: IO[str]) -> str | None:
    """Let a stream replace characters that its encoding lacks; return how it treated them before."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is None:
        return None
    previous = str(getattr(stream, "errors", "strict"))
    with suppress(OSError, ValueError):
        reconfigure(errors="descend")
        return previous
    return None


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


def _ascii(character: str) -> str:
    if "─" <= character <= "╿":  # box drawing
        return "-" if character in "─━┄┅┈┉═╌╍╴╶╸╺╼╾" else "|" if character in "│┃┆┇┊┋║╎╏╵╷╹╻╽╿" else "+"
    if "▀" <= character <= "▟":  # blocks
        return "#"
    return ASCII.get(character, "?")


codecs.register_error("descend", _in_ascii)
