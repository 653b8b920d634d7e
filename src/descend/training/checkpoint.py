"""Checkpoints: the state of training on disk, complete or absent, written while training goes on.

The state is copied in memory, which takes no longer than reading it once, and a thread writes the copy. The
copy is also the last good state, to which a run returns when numbers go bad.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

from descend.errors import CheckpointError, UserError, message_of
from descend.files import write_atomically
from descend.training.loop import Record, Training
from descend.training.settings import CheckpointSettings
from descend.training.state import clone, read_state, to_bytes

__all__ = ["Checkpointer", "load_checkpoint"]

LAST = "last.safetensors"
BEST = "best.safetensors"
SHARE = 0.05
"""Checkpoints may take this share of the training time."""


class Checkpointer:
    """Observer that keeps the last good state, in memory and, given a folder, on disk.

    Two files are kept: ``last.safetensors``, the whole state, and ``best.safetensors``, the weights of the
    best epoch so far. When a new copy comes before the one before it is written, the newest is
    written next and the older dropped.

    Args:
        folder: where the files go; None keeps copies in memory alone.
        settings: how often.
        meta: facts about the run that stand in the file's header.
    """

    def __init__(
        self, folder: Path | None, settings: CheckpointSettings, meta: dict[str, Any] | None = None
    ) -> None:
        self.folder, self.settings, self.meta = folder, settings, meta or {}
        self.good: dict[str, Any] | None = None
        self._written_best = 0
        self._saved_at = time.monotonic()
        self._cost = 0.0
        self._writer = _Writer()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def started(self, training: Training) -> None:
        """Keep the state that training starts from."""
        self.good = clone(training.state_dict())
        self._saved_at = time.monotonic()

    def stepped(self, training: Training) -> None:
        """Save once the time for it has come."""
        if time.monotonic() - self._saved_at >= self.settings.every_seconds:
            training.check_finite()
            self.save(training)

    def epoch_ended(self, training: Training, record: Record) -> None:
        """Save at the end of every so many epochs, unless that would cost too much of the time."""
        if training.epoch % self.settings.every_epochs:
            return
        first = training.epoch == self.settings.every_epochs
        if first or time.monotonic() - self._saved_at >= self._cost / SHARE:
            self.save(training)

    def finished(self, training: Training) -> None:
        """Save the last state, and see it on the disk."""
        self.save(training)
        self.wait()

    def save(self, training: Training) -> None:
        """Copy the state now; write the copy in the background."""
        began = time.monotonic()
        state = clone(training.state_dict())
        self.good, self._saved_at = state, began
        copied = time.monotonic() - began
        if self.folder is None:
            self._cost = copied
            return
        self._writer.submit(lambda: self._write(state))
        self._cost = copied + self._writer.cost

    def _write(self, state: dict[str, Any]) -> None:
        assert self.folder is not None
        meta = self.meta | {"epoch": state["epoch"], "step": state["step"]}
        write_atomically(self.folder / LAST, to_bytes(state, meta))
        best_epoch = state["stopping"]["best_epoch"]
        if state["best"] is not None and best_epoch != self._written_best:
            write_atomically(self.folder / BEST, to_bytes(state["best"], meta | {"epoch": best_epoch}))
            self._written_best = best_epoch

    def wait(self) -> None:
        """Return when nothing is left to write.

        Raises:
            CheckpointError: writing failed.
        """
        self._writer.wait()

    def close(self) -> None:
        """Return when nothing writes any more, whether writing went well or not."""
        self._writer.join()


class _Writer:
    """A thread that does the latest piece of work handed to it, and reports a failure at the next call."""

    def __init__(self) -> None:
        self.cost = 0.0
        self._next: Any = None
        self._thread: threading.Thread | None = None
        self._failure: CheckpointError | None = None
        self._lock = threading.Lock()

    def submit(self, work: Any) -> None:
        self._raise_failure()
        with self._lock:
            self._next = work
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="checkpoint", daemon=False)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                work, self._next = self._next, None
                if work is None:
                    self._thread = None
                    return
            began = time.monotonic()
            try:
                work()
            except UserError as cause:
                self._failure = CheckpointError(str(cause))
            except (
                Exception
            ) as cause:  # an exception that ends the thread would leave its work pending for ever
                self._failure = CheckpointError(f"the checkpoint could not be written: {message_of(cause)}")
            self.cost = time.monotonic() - began

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
    """The state in the last checkpoint of a folder; None where a run stopped before its first one.

    Raises:
        CheckpointError: the checkpoint is damaged.
    """
    path = folder / LAST
    return read_state(path)[0] if path.exists() else None
