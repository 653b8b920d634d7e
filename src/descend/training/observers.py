"""Observers of training: the history file and TensorBoard; and stopping on signals.

The progress bar is in :mod:`descend.training.progress`.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from descend.errors import CheckpointError, require
from descend.files import unwritten
from descend.training.loop import Training
from descend.training.records import Record

__all__ = ["HistoryFile", "Quiet", "Stoppable", "TensorBoard", "stopping_on_signals"]


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

    def started(self, training: Training) -> None:
        """Write the lines of the epochs already done."""
        try:
            self.path.write_text("".join(_line(record) for record in training.history), encoding="utf-8")
        except OSError as cause:
            raise CheckpointError(unwritten(self.path, cause)) from cause

    def epoch_ended(self, training: Training, record: Record) -> None:
        """Append the line of the epoch. The file is closed in between, so that no error leaves it open."""
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))
        except OSError as cause:
            raise CheckpointError(unwritten(self.path, cause)) from cause


def _line(record: Record) -> str:
    return json.dumps(record) + "\n"


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
                    if number is None:  # undefined
                        continue
                    self._writer.add_scalar(f"{metric}/{name}", number, record["step"])
            elif name not in ("epoch", "step", "best"):
                self._writer.add_scalar(name, value, record["step"])

    def finished(self, training: Training) -> None:
        """Flush and close."""
        self._writer.close()


@contextmanager
def stopping_on_signals(training: Stoppable) -> Iterator[None]:
    """Context in which Ctrl-C, SIGTERM and SIGHUP request the training to stop after the current step.

    A second Ctrl-C is not caught: it ends the program immediately. SIGHUP remains ignored under nohup. Outside the main
    thread, where signals cannot be handled, the context has no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def request(number: int, frame: FrameType | None) -> None:
        if training.stop_requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        training.stop_requested = True

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, request) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
