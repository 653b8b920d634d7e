"""The files of a run folder, read tolerantly.

Reports matter most when something went wrong, so all files except one may be absent: a run that failed in its first
step has no evaluation, and one in progress has a growing history. Files that are present must be readable; the error
names a damaged one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from descend.errors import RunError
from descend.files import parse_object, read_json_lines, read_text

__all__ = ["PARTS", "USED", "RunFiles", "items", "mapping", "number", "read", "text"]

PARTS = ("train", "validation", "test")
"""The parts of the data, in the order in which they are used."""

USED = frozenset({"numeric", "boolean", "categorical", "date", "time", "duration", "text"})
"""Kinds of columns that are inputs of the network."""

_MAIN = {
    "binary": "accuracy",
    "multiclass": "accuracy",
    "regression": "r2",
    "multi_regression": "r2",
    "multi_label": "f1_micro",
}


def mapping(value: object) -> Mapping[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def items(value: object) -> Sequence[Any]:
    """Return the value if it is a JSON array, else an empty one."""
    return value if isinstance(value, Sequence) and not isinstance(value, str) else ()


def number(value: object) -> float | None:
    """Return the value as a float if it is a usable number, else None.

    NaN, infinities and numbers beyond 1e150, whose squares would overflow, are not usable.

    >>> number(3), number(True), number(float("nan")), number("3"), number(10**400)
    (3.0, None, None, None, None)
    """
    # The exact type suffices, since JSON has no other numbers, and is fast for the many numbers of a long history.
    if type(value) is not float and type(value) is not int:
        return None
    return float(value) if -1e150 < value < 1e150 else None


def text(value: object) -> str:
    """Return a string unchanged, "" for None, and ``str(value)`` for anything else."""
    return "" if value is None else str(value)


@dataclass(frozen=True)
class RunFiles:
    """The contents of a run folder; absent files are empty.

    Args:
        folder: the run folder.
        recipe: ``recipe.toml``, verbatim.
        schema: ``schema.json``.
        history: the lines of ``history.jsonl``, one per epoch.
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
        """``regression``, ``multi_regression``, ``binary``, ``multiclass`` or ``multi_label``; "" if unknown."""
        return text(self.metrics.get("task") or self.schema.get("task"))

    @property
    def status(self) -> str:
        """``finished``, ``stopped``, ``interrupted`` or ``failed``; ``unfinished`` if there are no metrics yet."""
        return text(self.metrics.get("status")) or ("finished" if self.metrics else "unfinished")

    @property
    def name(self) -> str:
        """The name of the data, or else of the folder."""
        data = mapping(self.environment.get("data"))
        named = data.get("name") or self.schema.get("name") or data.get("reference")
        return text(named) or self.folder.resolve().name

    @cached_property
    def main_metric(self) -> str:
        """The main metric of the task, ``accuracy`` or ``r2``; otherwise the first recorded metric."""
        recorded = [name for part in PARTS for name in mapping(self.metrics.get(part)) if name != "loss"]
        recorded += [name for name in mapping(self.last.get("validation")) if name != "loss"]
        main = _MAIN.get(self.task, "accuracy")
        return main if main in recorded or not recorded else recorded[0]

    @property
    def last(self) -> Mapping[str, Any]:
        """The last epoch's line; empty before the first."""
        return self.history[-1] if self.history else {}

    @cached_property
    def best_epoch(self) -> int | None:
        """The epoch whose weights were kept: from the metrics, or the last one marked as best."""
        best = number(self.metrics.get("best_epoch"))
        if best is None:
            marked = [number(line.get("epoch")) for line in self.history if line.get("best") is True]
            best = marked[-1] if marked else None
        return None if best is None else int(best)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """The parsed recipe; empty if it is not valid TOML."""
        try:
            return tomllib.loads(self.recipe)
        except tomllib.TOMLDecodeError:
            return {}

    @property
    def targets(self) -> Sequence[str]:
        """The names of the targets."""
        named = [text(name) for name in items(self.schema.get("target_names"))]
        return named or [text(name) for name in mapping(self.evaluation.get("scatter"))]

    @cached_property
    def classes(self) -> Sequence[str]:
        """The class names, in the order of the network's outputs; empty for regression and several labels."""
        if self.task == "multi_label":
            return []
        return [text(name) for name in items(self.schema.get("classes") or self.evaluation.get("classes"))]

    @cached_property
    def confusion(self) -> tuple[Sequence[str], list[list[float]]]:
        """Class names and the square matrix of counts, true by predicted; both empty if their sizes differ."""
        names = [text(name) for name in items(self.evaluation.get("classes"))]
        counts = [
            [number(cell) or 0.0 for cell in items(row)] for row in items(self.evaluation.get("confusion"))
        ]
        square = len(counts) == len(names) and all(len(row) == len(names) for row in counts)
        return (names, counts) if square else ([], [])

    @property
    def standardized(self) -> bool:
        """Whether the loss is measured on standardized targets, in other units than the metrics."""
        scale, mean = items(self.schema.get("target_scale")), items(self.schema.get("target_mean"))
        return bool(scale) and (any(each != 1.0 for each in scale) or any(each != 0.0 for each in mean))

    def rows(self, part: str) -> float | None:
        """Return the number of rows of a part of the data."""
        rows = number(mapping(self.schema.get("rows")).get(part))
        if rows is None and self.evaluation.get("part") == part:
            rows = number(self.evaluation.get("rows"))
        return rows

    def score(self, part: str, name: str | None = None) -> float | None:
        """Return a part's score after training, by default the main one; None if it was not measured."""
        return number(mapping(self.metrics.get(part)).get(name or self.main_metric))

    def series(self, *path: str) -> list[float | None]:
        """Return one number of every epoch, such as ``series("train", "loss")``; None where it is absent."""
        values: Iterable[Any] = self.history
        for key in path:
            values = [value.get(key) if isinstance(value, dict) else None for value in values]
        return [number(value) for value in values]

    @property
    def seconds(self) -> list[float | None]:
        """The duration of each epoch. The history records the time since the start of training."""
        elapsed: list[float | None] = [0.0, *self.series("seconds")]
        return [
            end - start if start is not None and end is not None and end >= start else None
            for start, end in pairwise(elapsed)
        ]

    @cached_property
    def epochs(self) -> list[float]:
        """The numbers of the epochs; the line number where a line has none."""
        return [number(line.get("epoch")) or float(row) for row, line in enumerate(self.history, 1)]


def is_run(folder: Path) -> bool:
    """Return whether a folder contains any of the files that a report is written from."""
    return any((folder / name).is_file() for name in ("metrics.json", "history.jsonl", "recipe.toml"))


def read(folder: Path) -> RunFiles:
    """Read the files of a run folder.

    Args:
        folder: a run folder, finished or not.

    Raises:
        RunError: the folder does not exist, contains no run, or one of its files is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"no such run folder: {folder}")
    if not is_run(folder):
        raise RunError(f"{folder} contains no run (no metrics.json, history.jsonl or recipe.toml)")
    history = folder / "history.jsonl"
    return RunFiles(
        folder=folder,
        recipe=_text(folder / "recipe.toml"),
        schema=_object(folder / "schema.json"),
        history=read_json_lines(history, growing=True) if history.exists() else [],
        metrics=_object(folder / "metrics.json"),
        evaluation=_object(folder / "evaluation.json"),
        environment=_object(folder / "environment.json"),
    )


def _text(path: Path) -> str:
    return read_text(path) if path.exists() else ""


def _object(path: Path) -> Mapping[str, Any]:
    content = _text(path)
    return parse_object(content, f"{path} is damaged") if content else {}
