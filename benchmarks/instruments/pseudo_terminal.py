"""A terminal without a window: what is printed inside is really drawn, by another process, and counted.

A progress bar looks whether it writes to a terminal and does nothing when it does not. A benchmark whose
output goes to a file would therefore measure a bar that is off.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Terminal", "pseudo_terminal"]

ROWS, COLUMNS = 40, 120


class Terminal:
    """What was drawn so far."""

    def __init__(self, drawn: Path) -> None:
        self.drawn = drawn

    def bytes_drawn(self) -> int:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return self.drawn.stat().st_size


@contextmanager
def pseudo_terminal() -> Iterator[Terminal]:
    """Send this process's standard output and error to a terminal of its own while the block runs."""
    with TemporaryDirectory() as folder:
        drawn = Path(folder) / "drawn"
        ours, programs = pty.openpty()
        fcntl.ioctl(programs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        with drawn.open("wb") as sink:
            reader = subprocess.Popen(["cat"], stdin=ours, stdout=sink, stderr=subprocess.DEVNULL)
        os.close(ours)
        _flush()
        saved = os.dup(1), os.dup(2)
        kind = os.environ.get("TERM")
        os.environ["TERM"] = "xterm-256color"
        os.dup2(programs, 1)
        os.dup2(programs, 2)
        os.close(programs)
        try:
            yield Terminal(drawn)
        finally:
            _flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
            os.environ.pop("TERM")
            if kind is not None:
                os.environ["TERM"] = kind
            reader.wait(timeout=10)  # it ends by itself: nobody holds the other end any more


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
