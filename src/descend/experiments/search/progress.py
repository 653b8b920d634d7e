"""The progress bar of a search."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from descend.experiments.search.journal import Journal
from descend.experiments.search.trial import best_trial
from descend.report.formatting import NO_BREAK, metric, score
from descend.runs.run import Run

__all__ = ["SearchBar"]


class SearchBar:
    """A progress bar with the number of completed trials and the best score so far.

    On a console that is not a terminal, a line is printed every ten seconds instead.

    Args:
        console: the console to print to.
        journal: the records of the search; a trial is added before :meth:`finished` is called for it.
        total: number of trials of the search.
        name: the metric that trials are compared by.
    """

    def __init__(self, console: Console, journal: Journal, total: int, name: str) -> None:
        self._console, self._journal, self._total, self._name = console, journal, total, name
        self._next = time.monotonic() + (0.0 if console.is_terminal else 10.0)
        self._epochs = 0
        self._bar: Progress | None = None
        self._task: Any = None

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Count the epoch, and redraw if the last update is old enough."""
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
        """Remove the bar from the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self) -> None:
        completed = len(self._journal.trials)
        if not self._console.is_terminal:
            self._console.print(f"trial {completed}/{self._total}  {self._status()}", highlight=False)
            return
        if self._bar is None:
            self._bar = Progress(
                TextColumn("trial {task.fields[count]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[status]}"),
                TimeRemainingColumn(),
                console=self._console,
                auto_refresh=False,
                transient=True,
                expand=True,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=self._total, completed=completed, count="", status="")
        self._bar.update(
            self._task,
            completed=completed,
            count=f"{completed}/{self._total}",
            status=self._status(),
            refresh=True,
        )

    def _status(self) -> str:
        best = best_trial(self._journal.trials.values(), self._name)
        epochs = f"{self._epochs:,} epochs"
        if best is None:
            return epochs
        shown = score(self._name, best.score).replace(NO_BREAK, " ")
        return f"{epochs}  best {metric(self._name)} {shown} (trial {best.number + 1})"
