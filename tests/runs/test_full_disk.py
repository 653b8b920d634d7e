"""A folder that cannot be written, or disappears, ends a run in one sentence and leaves nothing in the way."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

import descend
from descend.errors import CheckpointError, RunError
from descend.training.loop import Training
from descend.training.observers import Quiet
from descend.training.records import Record

RECIPE = {"model": {"hidden": [4]}, "stop": {"max_epochs": 2}, "checkpoint": {"every_seconds": 3600}}


@pytest.mark.parametrize("name", ["schema.json", "environment.json", "recipe.toml"])
def test_a_disk_that_is_full_at_the_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if target.name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(RunError, match=rf"^cannot write .*/run/{name}: No space left on device$"):
        descend.train("iris", RECIPE, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_disappears_while_training_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "run"

    class Moves(Quiet):
        def epoch_ended(self, training: Training, record: Record) -> None:
            if training.epoch == 2:
                shutil.move(folder, tmp_path / "moved")

    with pytest.raises(
        CheckpointError, match=rf"the folder {folder}\S* does not exist any more; it was moved"
    ):
        descend.train("iris", RECIPE, out=folder, observers=[Moves()])
    run = descend.train(out=tmp_path / "moved", resume=True)
    assert run.metrics["epochs"] == 2
