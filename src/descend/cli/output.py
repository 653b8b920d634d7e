"""Where words for people go, and where the one JSON object goes."""

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

__all__ = ["Lasting", "answering", "json_ready", "people", "screen", "write_json"]

WIDTH = 100
"""Columns of text where nothing says how many there are: a file, a pipe."""

Answer = Callable[[Mapping[str, Any]], None]


class Lasting:
    """A text stream whose reader may go away (``descend methods | head``) without harm to the work.

    What cannot be delivered is dropped, here and when Python closes the stream at its end.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write, if there is a reader."""
        with self._dropping():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, if there is a reader."""
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
    """A console on standard output, for words and tables; ``width`` is for files and pipes."""
    return _console(sys.stdout, quiet, width)


def screen(*, quiet: bool = False) -> Console:
    """A console on standard error, for what passes by: progress, notes."""
    return _console(sys.stderr, quiet, WIDTH)


def _console(stream: IO[str], quiet: bool, width: int) -> Console:
    from rich.console import Console

    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(
        file=cast(IO[str], Lasting(stream)),
        width=None if known else width,
        quiet=quiet,
        markup=False,
        highlight=False,
        emoji=False,
    )


@contextmanager
def answering(as_json: bool) -> Iterator[Answer]:
    """Gives a function that takes the command's answer, which is printed at the end if it is wanted.

    With ``as_json`` whatever is printed inside goes to standard error, so that the answer, one JSON object,
    is all there is on standard output.
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
    """One JSON object on standard output."""
    stream = Lasting(sys.stdout)
    stream.write(json.dumps(json_ready(answer), allow_nan=False) + "\n")
    stream.flush()


def json_ready(value: Any) -> Any:
    """A value with nothing but what JSON has; NaN and infinities, which it lacks, become null.

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
