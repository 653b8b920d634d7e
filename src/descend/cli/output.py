"""Output for people, and the single JSON object of ``--json``."""

from __future__ import annotations

import errno
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from descend.errors import Interrupted

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["LastingStream", "already_saved", "answering", "json_ready", "people", "screen", "write_json"]

WIDTH = 100
"""The width in columns where it is unknown, as for files and pipes."""

_CLOSED = (errno.EPIPE, errno.EIO, errno.EBADF)
"""What the system reports if a pipe has no reader, a terminal was closed, or a stream is closed."""

Answer = Callable[[Mapping[str, Any]], None]


class LastingStream:
    """A text stream whose reader may close it (``descend methods | head``) without ending the program.

    Output that cannot be delivered is dropped, here and when Python closes the stream at exit. ``lost`` is the cause,
    such as a full disk; it remains empty if the reader has closed the stream.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.lost = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write if there is a reader."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if there is a reader."""
        with self._dropping():
            self._stream.flush()

    @contextmanager
    def _dropping(self) -> Iterator[None]:
        try:
            yield
        except OSError as cause:
            if cause.errno not in _CLOSED:
                self.lost = self.lost or cause.strerror or str(cause)
            with suppress(OSError, ValueError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, self._stream.fileno())
                os.close(null)


def people(*, quiet: bool = False, width: int = WIDTH) -> Console:
    """Return a console on standard output for text and tables; ``width`` applies to files and pipes."""
    return _console(sys.stdout, quiet, width)


def screen(*, quiet: bool = False) -> Console:
    """Return a console on standard error for progress and notes."""
    return _console(sys.stderr, quiet, WIDTH)


def _console(stream: IO[str], quiet: bool, width: int) -> Console:
    from rich.console import Console

    columns = os.environ.get("COLUMNS")
    known = stream.isatty() if columns is None else columns.isdigit() and int(columns) > 0
    return Console(
        file=cast(IO[str], LastingStream(stream)),
        width=None if known else width,
        quiet=quiet,
        markup=False,
        highlight=False,
        emoji=False,
    )


@contextmanager
def answering(as_json: bool) -> Iterator[Answer]:
    """Yield a function that takes the command's answer, which is printed at the end with ``as_json``.

    With ``as_json`` everything printed within goes to standard error, so that standard output contains the
    answer, one JSON object, and nothing else.
    """
    held: list[Mapping[str, Any]] = []
    if as_json:
        with redirect_stdout(sys.stderr):
            yield held.append
    else:
        yield held.append
        held.clear()
    for answer in held:
        write_json(answer)


@contextmanager
def already_saved(folder: Path | None, what: str = "run") -> Iterator[None]:
    """Context for what follows once the result is on disk: a request to stop then says that nothing is lost.

    Raises:
        Interrupted: instead of a KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped while the report was written; the {what} in {folder} is complete"
        ) from None


def write_json(answer: Mapping[str, Any]) -> None:
    """Print one JSON object on standard output."""
    stream = LastingStream(sys.stdout)
    stream.write(json.dumps(json_ready(answer), allow_nan=False) + "\n")
    stream.flush()


def json_ready(value: Any) -> Any:
    """Convert a value to what JSON can represent; NaN and infinities become null.

    >>> json_ready({"hidden": (64, 64), "r2": float("nan"), "model": dict})
    {'hidden': [64, 64], 'r2': None, 'model': 'builtins:dict'}
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if hasattr(value, "item"):  # a NumPy scalar
        return json_ready(value.item())
    if callable(value):
        from descend.recipe.toml import path_of

        return path_of(value)
    return str(value)
