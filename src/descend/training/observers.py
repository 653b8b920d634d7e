"""Observers of training: the history file, the progress bar and TensorBoard; and stopping on signals."""

from __future__ import annotations

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from descend.errors import CheckpointError, require
from descend.training.loop import Training
from descend.training.records import Record

__all__ = ["HistoryFile", "ProgressBar", "Quiet", "Stoppable", "TensorBoard", "stopping_on_signals"]


SECONDS_PER_LINE = 10.0
"""The time between two lines of progress where the output is not a terminal."""


class Stoppable(Protocol):
    """A training that checks after each step whether it has been requested to stop."""

    stop_requested: bool


class Quiet:
    """An observer that does nothing: a base class for observers of only some events."""

    def started(self, training: Training) -> None:
        """Do nothing."""

    def stepped(self, training: Training) -> None:
        """Do nothing."""

    def epoch_ended(self, training: Training, record: Record) -> None:
        """Do nothing."""

    def finished(self, training: Training) -> None:
        """Do nothing."""


class HistoryFile(Quiet):
    """Observer that writes ``history.jsonl``, one line per epoch, readable while training continues.

    A resumed run continues the file from the epoch of its checkpoint.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: Any = None

    def started(self, training: Training) -> None:
        """Write the lines of the epochs already done, and keep the file open for more."""
        try:
            self._file = self.path.open("w", encoding="utf-8")
            self._file.writelines(_line(record) for record in training.history)
            self._file.flush()
        except OSError as cause:
            raise CheckpointError(f"cannot write {self.path}: {cause.strerror or cause}") from cause

    def epoch_ended(self, training: Training, record: Record) -> None:
        """Write the line of the epoch."""
        try:
            self._file.write(_line(record))
            self._file.flush()
        except OSError as cause:
            raise CheckpointError(
                f"cannot write {self.path}: {cause.strerror or cause}; checkpoints written before are untouched"
            ) from cause

    def finished(self, training: Training) -> None:
        """Close the file."""
        self._file.close()


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


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
    """

    def __init__(self, console: Console, metric: str, *, every: float = 0.25) -> None:
        self.console, self.metric, self.every = console, metric, every
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
        """Remove the bar."""
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
            text += f"  validation {self.metric} {record['validation'][self.metric]:.4f}"
        return text


class TensorBoard(Quiet):
    """Observer that writes the history as TensorBoard scalars; needs the extra ``tensorboard``."""

    def __init__(self, folder: Path) -> None:
        require("tensorboard", "tensorboard", "logging to TensorBoard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def epoch_ended(self, training: Training, record: Record) -> None:
        """Write each number of the record at its global step."""
        for name, value in record.items():
            if isinstance(value, dict):
                for metric, number in value.items():
                    self._writer.add_scalar(f"{metric}/{name}", number, record["step"])
            elif name not in ("epoch", "step", "best"):
                self._writer.add_scalar(name, value, record["step"])

    def finished(self, training: Training) -> None:
        """Flush and close."""
        self._writer.close()


@contextmanager
def stopping_on_signals(training: Stoppable) -> Iterator[None]:
    """Context in which Ctrl-C and SIGTERM request the training to stop after the current step.

    A second Ctrl-C is not caught: it ends the program immediately. Outside the main thread, where signals cannot be
    handled, the context has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: FrameType | None) -> None:
        if training.stop_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        training.stop_requested = True

    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
