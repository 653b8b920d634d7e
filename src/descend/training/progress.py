"""The progress bar of a training."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from descend.errors import UserError
from descend.training.loop import Training
from descend.training.observers import Quiet

__all__ = ["ProgressBar", "in_notebook", "progress_console", "progress_shown"]

SECONDS_PER_LINE = 10.0
"""The time between two lines of progress where the output is not a terminal."""


def in_notebook() -> bool:
    """Return whether the program runs in a notebook: in a kernel of Jupyter."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and hasattr(shell, "kernel")


def progress_console(progress: bool | None) -> Console | None:
    """Return the console on standard error that shows progress; None if progress is not shown.

    Args:
        progress: whether to show it; None: only in a terminal or a notebook.

    Raises:
        UserError: ``progress`` is neither a boolean nor None.
    """
    if progress is not None and not isinstance(progress, bool):
        raise UserError(f"progress: expected True, False or None, got {progress!r}")
    if progress is None:
        progress = sys.stderr is not None and (sys.stderr.isatty() or in_notebook())
    # In a notebook plain lines are printed, since they also remain in the saved notebook.
    return Console(stderr=True, force_jupyter=False, highlight=False, soft_wrap=True) if progress else None


@contextmanager
def progress_shown(progress: bool | None, metric: str) -> Iterator[Sequence[ProgressBar]]:
    """Context with the observers that show the progress of a training; see :func:`progress_console`."""
    console = progress_console(progress)
    if console is None:
        yield ()
        return
    bar = ProgressBar(console, metric, last_line=True)
    try:
        yield (bar,)
    finally:
        bar.close()


class _TimeLeft(ProgressColumn):
    """The remaining time, estimated from the time per step so far."""

    def render(self, task: Task) -> Text:
        left = task.fields.get("left")
        if left is None or not math.isfinite(left):
            return Text("-:--", style="progress.remaining")
        minutes, seconds = divmod(round(left), 60)
        hours, minutes = divmod(minutes, 60)
        shown = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return Text(f"{shown} left", style="progress.remaining")


class ProgressBar(Quiet):
    """Observer that shows the epoch, training loss, validation metric and remaining time.

    It is redrawn at most a few times per second, from the thread of the loop, and reads only numbers that are already
    on the host.

    Args:
        console: where to draw; if it is not a terminal, a line is printed every 10 seconds.
        metric: the metric to show.
        every: the shortest time between two redraws, in seconds. Default 0.25.
        last_line: whether a line is printed at the end if the console is not a terminal. Default False.
    """

    def __init__(
        self, console: Console, metric: str, *, every: float = 0.25, last_line: bool = False
    ) -> None:
        self.console, self.metric, self.every, self.last_line = console, metric, every, last_line
        self._bar: Progress | None = None
        self._task: Any = None
        self._next = 0.0
        self._started_at = (0, 0.0)

    def started(self, training: Training) -> None:
        """Draw the empty bar."""
        self._started_at = (training.step, training.seconds)
        self._next = time.monotonic() + (0.0 if self.console.is_terminal else SECONDS_PER_LINE)
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("epoch {task.fields[epoch]}"),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[numbers]}"),
                _TimeLeft(),
                console=self.console,
                auto_refresh=False,
                transient=True,
                expand=True,
            )
            self._bar.start()
            total = training.stopping.max_epochs * training.batches.steps_per_epoch
            self._task = self._bar.add_task("", total=total, epoch="1", numbers="", left=None)

    def stepped(self, training: Training) -> None:
        """Redraw if the last drawing is old enough."""
        now = time.monotonic()
        if now >= self._next:
            self._draw(training)
            self._next = now + (self.every if self._bar is not None else SECONDS_PER_LINE)

    def finished(self, training: Training) -> None:
        """Remove the bar, or print the last line."""
        if self.last_line and not self.console.is_terminal and training.history:
            self.console.print(
                f"epoch {training.epoch}/{training.stopping.max_epochs}  {self._numbers(training)}"
            )
        self.close()

    def close(self) -> None:
        """Remove the bar and restore the terminal."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _draw(self, training: Training) -> None:
        per_epoch, epochs = training.batches.steps_per_epoch, training.stopping.max_epochs
        elapsed, steps = training.seconds - self._started_at[1], training.step - self._started_at[0]
        left = (epochs * per_epoch - training.step) * elapsed / max(1, steps)
        if training.stopping.max_seconds is not None:
            left = min(left, training.stopping.max_seconds - training.seconds)
        epoch, numbers = f"{min(training.epoch + 1, epochs)}/{epochs}", self._numbers(training)
        if self._bar is not None:
            self._bar.update(
                self._task, completed=training.step, epoch=epoch, numbers=numbers, left=left, refresh=True
            )
        else:
            self.console.print(f"epoch {epoch}  {numbers}  at most {left:,.0f} s left", highlight=False)

    def _numbers(self, training: Training) -> str:
        if not training.history:
            return ""
        record = training.history[-1]
        text = f"loss {record['train']['loss']:.4f}"
        if "validation" in record:
            value = record["validation"].get(self.metric)
            text += f"  validation {self.metric} " + ("\N{EN DASH}" if value is None else f"{value:.4f}")
        return text
