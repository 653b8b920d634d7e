"""What is shown while a search goes on."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from descend.experiments.search.journal import Journal
from descend.experiments.search.trial import best_of
from descend.report.words import NO_BREAK, metric, score
from descend.runs.run import Run

__all__ = ["SearchBar"]


class SearchBar:
    """A bar with the trials that are done and the best so far.

    On something that is not a terminal a line is printed now and then.

    Args:
        console: where to draw.
        journal: the records; a trial is in it before its end is told.
        total: how many trials there will be.
        name: the metric that is compared.
    """

    def __init__(self, console: Console, journal: Journal, total: int, name: str) -> None:
        self._console, self._journal, self._total, self._name = console, journal, total, name
        self._next = time.monotonic() + (0.0 if console.is_terminal else 10.0)
        self._epochs = 0
        self._bar: Progress | None = None
        self._task: Any = None

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Count the epoch, and redraw if it is time."""
        self._epochs += 1
        now = time.monotonic()
        if now >= self._next:
            self._draw()
            self._next = now + (0.25 if self._console.is_terminal else 10.0)

    def finished(self, number: int, run: Run) -> None:
        """Redraw on a terminal."""
        if self._console.is_terminal:
            self._draw()

    def close(self) -> None:
        """Give the terminal back."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self) -> None:
        done = len(self._journal.trials)
        if not self._console.is_terminal:
            self._console.print(f"trial {done}/{self._total}  {self._words()}", highlight=False)
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("trial {task.fields[done]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[words]}"),
                TimeRemainingColumn(),
                console=self._console,
                auto_refresh=False,
                transient=True,
                expand=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=done, done="", words="")
        self._bar.update(
            self._task, completed=done, done=f"{done}/{self._total}", words=self._words(), refresh=True
        )

    def _words(self) -> str:
        best = best_of(self._journal.trials.values(), self._name)
        epochs = f"{self._epochs:,} epochs"
        if best is None:
            return epochs
        shown = score(self._name, best.score).replace(NO_BREAK, " ")
        return f"{epochs}  best {metric(self._name)} {shown} (trial {best.number + 1})"
