"""Signals that stop a command, from its first moment on."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

__all__ = ["SIGNALS", "Stopped", "last_signal", "report_stop", "stopped_early", "stopping"]

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that stop a command."""

_RECEIVED: list[int] = [signal.SIGINT]


class Stopped(KeyboardInterrupt):
    """A signal requested the command to stop.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


def stopped_early(number: int) -> str:
    """Return the message that a signal stopped the command before there was anything to save."""
    cause = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"stopped{cause} before anything was saved"


def last_signal() -> int:
    """Return the number of the signal that stopped the command."""
    return _RECEIVED[-1]


def report_stop(message: str) -> None:
    """Print a message on standard error, if that is possible."""
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
    _RECEIVED[:] = [signal.SIGINT]
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
        report_stop(stopped_early(number))
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
