"""The files of a run folder, read for showing.

A report is wanted most when something went wrong, so every file but one may be absent: a run that failed
in its first step has no evaluation, and one that is still going has a history that grows. What is there
must be readable; a damaged file is named.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from descend.errors import RunError

__all__ = ["PARTS", "USED", "RunFiles", "items", "mapping", "number", "read", "text"]

PARTS = ("train", "validation", "test")
"""The parts of the data, in the order in which they are met."""

USED = frozenset({"numeric", "boolean", "categorical", "date"})
"""Kinds of column that the network sees."""

_MAIN = {"binary": "accuracy", "multiclass": "accuracy", "regression": "r2", "multi_regression": "r2"}


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> Sequence[Any]:
    """The value if it is a JSON array, else an empty one."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def number(value: object) -> float | None:
    """The value if it is a number that can be reckoned with, else None.

    NaN and infinities cannot, nor can numbers beyond 1e150, whose squares would overflow.

    >>> number(3), number(True), number(float("nan")), number("3"), number(10**400)
    (3.0, None, None, None, None)
    """
    # By exact type: JSON has no other numbers, and it is asked of every number of a long history.
    if type(value) is not float and type(value) is not int:
        return None
    return float(value) if -1e150 < value < 1e150 else None


def text(value: object) -> str:
    """A string as it is, nothing for None, anything else as Python writes it."""
    return "" if value is None else str(value)


@dataclass(frozen=True)
class RunFiles:
    """What the files of a run folder say; an absent file is empty here.

    Args:
        folder: the run folder.
        recipe: ``recipe.toml``, verbatim.
        schema: ``schema.json``.
        history: the lines of ``history.jsonl``, an epoch each.
        metrics: ``metrics.json``.
        evaluation: ``evaluation.json``.
        environment: ``environment.json``.
    """

    folder: Path
    recipe: str
    schema: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    environment: Mapping[str, Any]

    @property
    def task(self) -> str:
        """``regression``, ``multi_regression``, ``binary``, ``multiclass``, or nothing if no file says."""
        return text(self.metrics.get("task") or self.schema.get("task"))

    @property
    def status(self) -> str:
        """``finished``, ``interrupted`` or ``failed``; ``unfinished`` while there are no metrics."""
        return text(self.metrics.get("status")) or ("finished" if self.metrics else "unfinished")

    @property
    def name(self) -> str:
        """What the data is called, or else the folder."""
        data = mapping(self.environment.get("data"))
        named = data.get("name") or self.schema.get("name") or data.get("reference")
        return text(named) or self.folder.resolve().name

    @cached_property
    def main_metric(self) -> str:
        """The score that the task is judged by: ``accuracy`` or ``r2``, or the first that was recorded."""
        recorded = [name for part in PARTS for name in mapping(self.metrics.get(part)) if name != "loss"]
        recorded += [name for name in mapping(self.last.get("validation")) if name != "loss"]
        wanted = _MAIN.get(self.task, "accuracy")
        return wanted if wanted in recorded or not recorded else recorded[0]

    @property
    def last(self) -> Mapping[str, Any]:
        """The last epoch's line, empty before the first."""
        return self.history[-1] if self.history else {}

    @cached_property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept: as the metrics say, or the last one marked as best."""
        best = number(self.metrics.get("best_epoch"))
        if best is None:
            marked = [number(line.get("epoch")) for line in self.history if line.get("best") is True]
            best = marked[-1] if marked else None
        return None if best is None else int(best)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The recipe as values; empty if it is not TOML."""
        try:
            return tomllib.loads(self.recipe)
        except tomllib.TOMLDecodeError:
            return {}

    @property
    def targets(self) -> Sequence[str]:
        """The names of what is predicted."""
        named = [text(name) for name in items(self.schema.get("target_names"))]
        return named or [text(name) for name in mapping(self.evaluation.get("scatter"))]

    @cached_property
    def classes(self) -> Sequence[str]:
        """The names of the classes, in the order of the network's outputs; empty for regression."""
        return [text(name) for name in items(self.schema.get("classes") or self.evaluation.get("classes"))]

    @cached_property
    def confusion(self) -> tuple[Sequence[str], list[list[float]]]:
        """Class names and the square of counts, true by predicted; both empty unless they fit together."""
        names = [text(name) for name in items(self.evaluation.get("classes"))]
        counts = [
            [number(cell) or 0.0 for cell in items(row)] for row in items(self.evaluation.get("confusion"))
        ]
        square = len(counts) == len(names) and all(len(row) == len(names) for row in counts)
        return (names, counts) if square else ([], [])

    def rows(self, part: str) -> float | None:
        """Number of rows of a part of the data."""
        known = number(mapping(self.schema.get("rows")).get(part))
        if known is None and self.evaluation.get("part") == part:
            known = number(self.evaluation.get("rows"))
        return known

    def score(self, part: str, name: str | None = None) -> float | None:
        """A part's score after training, the main one unless named; None where it was not measured."""
        return number(mapping(self.metrics.get(part)).get(name or self.main_metric))

    def series(self, *path: str) -> list[float | None]:
        """One number of every epoch, such as ``series("train", "loss")``; None where it is absent."""
        found: Iterable[Any] = self.history
        for key in path:
            found = [value.get(key) if isinstance(value, dict) else None for value in found]
        return [number(value) for value in found]

    @property
    def seconds(self) -> list[float | None]:
        """The time that each epoch took. The history counts from the start of training."""
        passed: list[float | None] = [0.0, *self.series("seconds")]
        return [
            end - begin if begin is not None and end is not None and end >= begin else None
            for begin, end in pairwise(passed)
        ]

    @cached_property
    def epochs(self) -> list[float]:
        """The epochs' numbers, counted from 1 where a line does not say."""
        return [number(line.get("epoch")) or float(row) for row, line in enumerate(self.history, 1)]


def read(folder: Path) -> RunFiles:
    """Read the run folder's files.

    Args:
        folder: a run folder, finished or not.

    Raises:
        RunError: it is no folder, it holds no run, or one of its files is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such run folder")
    if not any((folder / name).is_file() for name in ("metrics.json", "history.jsonl", "recipe.toml")):
        raise RunError(f"{folder}: this folder holds no run (no metrics.json, history.jsonl or recipe.toml)")
    return RunFiles(
        folder=folder,
        recipe=_text(folder / "recipe.toml"),
        schema=_object(folder / "schema.json"),
        history=list(_lines(folder / "history.jsonl")),
        metrics=_object(folder / "metrics.json"),
        evaluation=_object(folder / "evaluation.json"),
        environment=_object(folder / "environment.json"),
    )


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as cause:
        raise RunError(f"{path}: cannot be read: {cause}") from cause


def _object(path: Path) -> Mapping[str, Any]:
    content = _text(path)
    if not content:
        return {}
    try:
        value = json.loads(content)
    except (ValueError, RecursionError) as cause:
        raise RunError(f"{path}: damaged: {cause}") from cause
    if not isinstance(value, dict):
        raise RunError(f"{path}: damaged: expected a JSON object, found {type(value).__name__}")
    return value


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    """The history's epochs. A last line without its newline was being written, and is left out."""
    for row, line in enumerate(_text(path).split("\n")[:-1], 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as cause:
            raise RunError(f"{path}: line {row} is damaged: {cause}") from cause
        if not isinstance(value, dict):
            raise RunError(f"{path}: line {row} is damaged: expected a JSON object")
        yield value
