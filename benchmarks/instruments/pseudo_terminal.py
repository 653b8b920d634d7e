"""Pseudo-terminal for standard output and error, whose output another process reads and counts.

A progress bar is disabled if its output is not a terminal. A benchmark whose output is redirected to a file would
therefore measure a disabled bar.
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
    """The output written to a pseudo-terminal so far."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def bytes_written(self) -> int:
        """Return the number of bytes written so far."""
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return self.output.stat().st_size


@contextmanager
def pseudo_terminal() -> Iterator[Terminal]:
    """Redirect standard output and error of this process to a new pseudo-terminal within the block."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "output"
        controller, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        with output.open("wb") as sink:
            reader = subprocess.Popen(["cat"], stdin=controller, stdout=sink, stderr=subprocess.DEVNULL)
        os.close(controller)
        _flush()
        saved = os.dup(1), os.dup(2)
        saved_term = os.environ.get("TERM")
        os.environ["TERM"] = "xterm-256color"
        os.dup2(terminal, 1)
        os.dup2(terminal, 2)
        os.close(terminal)
        try:
            yield Terminal(output)
        finally:
            _flush()
            for number, copy in enumerate(saved, start=1):
                os.dup2(copy, number)
                os.close(copy)
            os.environ.pop("TERM")
            if saved_term is not None:
                os.environ["TERM"] = saved_term
            reader.wait(timeout=10)  # cat exits because the last descriptor of the terminal is closed


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
