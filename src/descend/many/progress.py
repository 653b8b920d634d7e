"""The progress of many trainings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.status import Status

from descend.runs.run import Run
from descend.training.progress import SECONDS_PER_LINE, progress_console

__all__ = ["NetworksProgress", "networks_shown"]


class NetworksProgress:
    """Watcher that shows how many of several trainings have ended, and the number of epochs so far.

    Args:
        console: where to draw; if it is not a terminal, a line is printed every 10 seconds, and one at the end.
        total: the number of trainings; None if it is not known.
    """

    def __init__(self, console: Console, total: int | None) -> None:
        self._console, self._total = console, total
        self._ended = self._epochs = 0
        self._next = time.monotonic() + SECONDS_PER_LINE
        self._status: Status | None = None
        if console.is_terminal:
            self._status = console.status(self._text())
            self._status.start()

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Count the epoch."""
        self._epochs += 1
        self._show()

    def finished(self, number: int, run: Run) -> None:
        """Count the training."""
        self._ended += 1
        self._show(last=self._ended == self._total)

    def close(self) -> None:
        """Remove the status from the terminal."""
        if self._status is not None:
            self._status.stop()

    def _show(self, *, last: bool = False) -> None:
        if self._status is not None:
            self._status.update(self._text())
        elif last or time.monotonic() >= self._next:
            self._console.print(self._text())
            self._next = time.monotonic() + SECONDS_PER_LINE

    def _text(self) -> str:
        of = "" if self._total is None else f"/{self._total}"
        return f"{self._ended}{of} networks trained, {self._epochs:,} epochs"


@contextmanager
def networks_shown(progress: bool | None, total: int | None) -> Iterator[Sequence[NetworksProgress]]:
    """Context with the watchers that show the progress of many trainings.

    Args:
        progress: as for :func:`descend.training.progress.progress_console`.
        total: the number of trainings; None if it is not known.
    """
    console = progress_console(progress)
    if console is None:
        yield ()
        return
    shown = NetworksProgress(console, total)
    try:
        yield (shown,)
    finally:
        shown.close()
