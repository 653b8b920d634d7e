"""Checkpoints: the [checkpoint] section of a recipe, and the state of training saved while training continues.

The state is copied in memory, which takes no longer than reading it once, and a thread writes the copy. The
copy is also the last good state, to which a run rolls back when numbers become NaN or infinite.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.errors import CheckpointError, UserError, message_of
from descend.files import write_atomically
from descend.param_types import Count, NonNegative
from descend.training.loop import Training
from descend.training.records import Record
from descend.training.state import clone, read_state, to_bytes

__all__ = ["CheckpointSettings", "Checkpointer", "load_checkpoint"]

LAST_FILE = "last.safetensors"
BEST_FILE = "best.safetensors"
MAX_TIME_SHARE = 0.05
"""The largest share of the training time that checkpoints at epoch ends may take."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """How often the state of training is saved. A checkpoint is complete or absent, whatever happens.

    Args:
        every_epochs: a checkpoint is scheduled at the end of every n-th epoch. One that would let checkpoints take
            more than a twentieth of the training time is postponed, so that short epochs stay fast.
        every_seconds: a checkpoint is also scheduled within an epoch once this much time has passed; 0 saves at
            every step.
    """

    every_epochs: Count = 1
    every_seconds: NonNegative = 60.0


class Checkpointer:
    """Observer that keeps the last good state, in memory and, given a folder, on disk.

    Two files are kept: ``last.safetensors``, the whole state, and ``best.safetensors``, the weights of the
    best epoch so far. If a new copy is made before the previous one is written, the newest is
    written next and the older one is dropped.

    Args:
        folder: where the files are written; None keeps copies in memory only.
        settings: how often to save.
        meta: facts about the run for the header of the files.
    """

    def __init__(
        self, folder: Path | None, settings: CheckpointSettings, meta: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.settings, self.meta = folder, settings, meta or {}
        self.good: dict[str, Any] | None = None
        self._written_best = 0
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._writer = _LatestWriter()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def started(self, training: Training) -> None:
        """Keep the state in which training starts."""
        self.good = clone(training.state_dict())
        self._saved_at = time.monotonic()

    def stepped(self, training: Training) -> None:
        """Save once ``every_seconds`` have passed."""
        if time.monotonic() - self._saved_at >= self.settings.every_seconds:
            training.check_finite()
            self.save(training)

    def epoch_ended(self, training: Training, record: Record) -> None:
        """Save at the end of every n-th epoch, unless that would take too large a share of the time."""
        if training.epoch % self.settings.every_epochs:
            return
        first = training.epoch == self.settings.every_epochs
        if first or time.monotonic() - self._saved_at >= self._cost / MAX_TIME_SHARE:
            self.save(training)

    def finished(self, training: Training) -> None:
        """Save the last state, and wait until it is on the disk."""
        self.save(training)
        self.wait()

    def save(self, training: Training) -> None:
        """Copy the state now; write the copy in the background."""
        started = time.monotonic()
        state = clone(training.state_dict())
        self.good, self._saved_at = state, started
        copy_seconds = time.monotonic() - started
        if self.folder is None:
            self._cost = copy_seconds
            return
        self._writer.submit(lambda: self._write(state))
        self._cost = copy_seconds + self._writer.seconds

    def _write(self, state: dict[str, Any]) -> None:
        assert self.folder is not None
        meta = self.meta | {"epoch": state["epoch"], "step": state["step"]}
        write_atomically(self.folder / LAST_FILE, to_bytes(state, meta))
        best_epoch = state["stopping"]["best_epoch"]
        if state["best"] is not None and best_epoch != self._written_best:
            write_atomically(self.folder / BEST_FILE, to_bytes(state["best"], meta | {"epoch": best_epoch}))
            self._written_best = best_epoch

    def wait(self) -> None:
        """Return once everything is written.

        Raises:
            CheckpointError: writing failed.
        """
        self._writer.wait()

    def close(self) -> None:
        """Return once the writing thread has ended, whether or not writing succeeded."""
        self._writer.join()


class _LatestWriter:
    """A thread that runs the latest submitted job, and reports a failure at the next call."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._next: Callable[[], None] | None = None
        self._thread: threading.Thread | None = None
        self._failure: CheckpointError | None = None
        self._lock = threading.Lock()

    def submit(self, job: Callable[[], None]) -> None:
        self._raise_failure()
        with self._lock:
            self._next = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=False)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                job, self._next = self._next, None
                if job is None:
                    self._thread = None
                    return
            started = time.monotonic()
            try:
                job()
            except UserError as cause:
                self._failure = CheckpointError(str(cause))
            except Exception as cause:  # uncaught, it would leave _thread set, and join would loop forever
                self._failure = CheckpointError(f"the checkpoint could not be written: {message_of(cause)}")
            self.seconds = time.monotonic() - started

    def wait(self) -> None:
        self.join()
        self._raise_failure()

    def join(self) -> None:
        while (thread := self._thread) is not None:
            thread.join()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """Return the state in the last checkpoint of a folder; None where a run stopped before its first one.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    path = folder / LAST_FILE
    return read_state(path)[0] if path.exists() else None
