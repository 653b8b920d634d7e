"""Checkpoints during training: the latest one wins, failures are raised, and earlier ones are not lost."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

import descend
import descend.training.checkpoint as module
from descend.errors import CheckpointError
from descend.training.checkpoint import load_checkpoint

RECIPE = {
    "data": {"batch_size": 8},
    "model": {"name": "mlp", "hidden": [6]},
    "stop": {"max_epochs": 4, "patience": None},
    "checkpoint": {"every_seconds": 0.0},
    "engine": {"threads": 1, "device": "cpu"},
}


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    return x, x @ [1.0, -2.0, 0.5] + 0.1 * rng.normal(size=60)


def test_the_last_checkpoint_is_the_last_state(tmp_path: Path) -> None:
    run = descend.train(data(), RECIPE, out=tmp_path / "run")
    state = load_checkpoint(tmp_path / "run" / "checkpoints")
    assert state is not None
    assert (state["epoch"], state["step"]) == (4, run.metrics["steps"])
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best.safetensors", "last.safetensors"]


def test_a_full_disk_stops_training_and_loses_nothing(tmp_path: Path, monkeypatch) -> None:
    # Long enough that the disk fills up during training, also where most checkpoints are overtaken by the next.
    recipe = RECIPE | {"stop": {"max_epochs": 12, "patience": None}}
    flush, count = os.fsync, []

    def filling(descriptor: int) -> None:
        count.append(descriptor)
        if len(count) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", filling)
    folder = tmp_path / "run"
    with pytest.raises(CheckpointError, match="No space left on device") as raised:
        descend.train(data(), recipe, out=folder)
    assert raised.value.exit_status == 2
    assert not [thread for thread in threading.enumerate() if thread.name == "checkpoint"]
    monkeypatch.undo()
    saved = load_checkpoint(folder / "checkpoints")
    assert saved is not None
    resumed = descend.train(data(), out=folder, resume=True)
    whole = descend.train(data(), recipe, out=tmp_path / "whole")
    assert resumed.metrics["test"] == whole.metrics["test"]
    assert (folder / "weights.safetensors").read_bytes() == (
        tmp_path / "whole" / "weights.safetensors"
    ).read_bytes()


def test_checkpoints_do_not_slow_down_short_epochs(tmp_path: Path, monkeypatch) -> None:
    """A checkpoint that would take more than its share of the time is postponed to a later epoch."""
    saves = []
    save = module.Checkpointer.save

    def counted(self, training) -> None:
        saves.append(training.epoch)
        save(self, training)
        self._cost = 1e9  # as if the disk were slow

    monkeypatch.setattr(module.Checkpointer, "save", counted)
    descend.train(data(), {**RECIPE, "checkpoint": {"every_seconds": 1e6}}, out=tmp_path / "run")
    assert saves == [1, 4]  # the first epoch's, and the last state


def test_any_failure_of_a_write_is_raised_without_a_deadlock(tmp_path: Path, monkeypatch) -> None:
    """An unexpected exception in the writing thread must not leave the main thread waiting."""

    def broken(*arguments: object) -> bytes:
        raise RuntimeError("unexpected")

    monkeypatch.setattr("descend.training.checkpoint.to_bytes", broken)
    with pytest.raises(CheckpointError, match="unexpected"):
        descend.train("iris", {"model": {"hidden": [4]}, "stop": {"max_epochs": 2}}, out=tmp_path / "run")
