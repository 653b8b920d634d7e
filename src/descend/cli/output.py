"""Output for people, and the single JSON object of ``--json``."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["LastingStream", "answering", "json_ready", "people", "screen", "write_json"]

WIDTH = 100
"""The width in columns where it is unknown, as for files and pipes."""

Answer = Callable[[Mapping[str, Any]], None]


class LastingStream:
    """A text stream whose reader may close it (``descend methods | head``) without ending the program.

    Output that cannot be delivered is dropped, here and when Python closes the stream at exit.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

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
        except BrokenPipeError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


def people(*, quiet: bool = False, width: int = WIDTH) -> Console:
    """Return a console on standard output for text and tables; ``width`` applies to files and pipes."""
    return _console(sys.stdout, quiet, width)


def screen(*, quiet: bool = False) -> Console:
    """Return a console on standard error for progress and notes."""
    return _console(sys.stderr, quiet, WIDTH)


def _console(stream: IO[str], quiet: bool, width: int) -> Console:
    from rich.console import Console

    known = stream.isatty() or "COLUMNS" in os.environ
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
