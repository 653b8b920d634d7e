"""The process of a command before anything heavy is imported: standard streams, signals, and its exit status.

Imports only small modules of the standard library, so that Ctrl-C is answered in one line from the start.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType
from typing import IO

__all__ = ["SIGNALS", "Stopped", "last_signal", "main", "standard_streams", "stopped_early", "stopping"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that stop a command."""

_RECEIVED: list[int] = [signal.SIGINT]

ASCII = {
    "−": "-", "–": "-", "—": "-", "‑": "-", "×": "x", "·": "*", "•": "*", "…": "...", "≤": "<=", "≥": ">=", "≠": "!=",
    "≈": "~", "±": "+/-", "→": "->", "←": "<-", "↑": "^", "↓": "v", "µ": "u", "μ": "u", "²": "2", "³": "3", "°": " deg",
    "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "√": "sqrt", "∞": "inf", "∈": "in", "∑": "sum", "∇": "grad",
    "✓": "ok", "✔": "ok", "✗": "x", "✘": "x", "\xa0": " ", "\u2009": " ", "\u202f": " ", "ß": "ss",
    "ä": "ae", "ö": "oe", "ü": "ue", "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "é": "e", "è": "e", "‖": "||",
}  # fmt: skip
"""What replaces characters that an encoding lacks. Box drawing and blocks are replaced by -, |, + and #."""


class Stopped(KeyboardInterrupt):
    """A signal requested the command to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program.

    Args:
        arguments: the arguments after ``descend`` on the command line; None takes them from the process.

    Returns:
        The exit status: 0 success, 1 an internal error of descend, 2 invalid input, 3 training failed,
        130 interrupted (by Ctrl-C, or with a checkpoint saved), 143 and 129 ended by SIGTERM and SIGHUP.

    >>> main(["--version"])
    descend ...
    0
    """
    with stopping(), standard_streams():
        try:
            from descend.cli.program import run

            return run(arguments)
        except Stopped as request:
            _print(stopped_early(request.number))
            return 128 + request.number


def stopped_early(number: int) -> str:
    """Return the message that a signal stopped the command before there was anything to save."""
    cause = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"stopped{cause} before anything was saved"


def last_signal() -> int:
    """Return the number of the signal that stopped the command."""
    return _RECEIVED[-1]


def _print(message: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(message[0].upper() + message[1:] + "\n")
        sys.stderr.flush()


@contextmanager
def stopping() -> Iterator[None]:
    """Context in which the signals raise :class:`Stopped`; outside the main thread it has no effect.

    A signal that is ignored, as SIGHUP under nohup, remains ignored. During an import the process ends at once, since a
    module that is half imported may hide the exception.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        number: signal.getsignal(number)
        for number in SIGNALS
        if number == signal.SIGINT or signal.getsignal(number) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _stop(number: int, frame: FrameType | None) -> None:
    if _importing(frame):
        _release_locks()
        if sys.stderr.isatty():
            sys.stderr.write(
                "\r\x1b[2K\x1b[?25h"
            )  # clears the line of a progress display, and shows the cursor
        _print(stopped_early(number))
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(128 + number)
    _RECEIVED.append(number)
    raise Stopped(number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


def _release_locks() -> None:
    """Release the locks of folders, which also removes folders that are still empty."""
    locks = sys.modules.get("descend.process.locks")
    if locks is not None:
        locks.release_all()


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
