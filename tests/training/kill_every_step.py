"""Train in forked processes that kill themselves (SIGKILL) after a given step, then resume each in a new process.

Usage: ``python -m tests.training.kill_every_step FOLDER``. It prints a JSON object with the number of steps and the outcome
of each run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
from tests.support.forks import exit_status

import descend
from descend.recipe import Recipe
from descend.training.observers import Quiet

RECIPE = {
    "data": {"batch_size": 8, "test": 0.0, "validation": 0.25},
    "model": {"name": "mlp", "hidden": [12, 8], "dropout": 0.3, "norm": "batch"},
    "optimizer": {"name": "adamw", "lr": 0.02},
    "schedule": {"name": "one_cycle"},
    "gradient": {"accumulate": 2, "clip_norm": 1.0},
    "regularize": {"weight_decay": 0.1, "l1": 1e-3},
    "stop": {"max_epochs": 3, "patience": 3},
    "engine": {"threads": 1, "device": "cpu"},
}
"""A recipe with shuffling, dropout, running statistics, accumulation, a schedule, clipping, decay and early stopping."""


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(88, 6))
    return rows, (rows[:, 0] * rows[:, 1] + 0.3 * rng.normal(size=88) > 0).astype(int)


class KillAt(Quiet):
    """Kill the process after a step, as a power failure would: immediately, or once pending checkpoints are written."""

    def __init__(self, step: int, written: bool) -> None:
        self.step, self.written = step, written

    def stepped(self, training) -> None:
        if training.step == self.step:
            for thread in threading.enumerate() if self.written else ():
                if thread.name == "checkpoint":
                    thread.join()
            os.kill(os.getpid(), signal.SIGKILL)


def train(
    folder: Path,
    *,
    resume: bool = False,
    kill_at: int = 0,
    every_seconds: float = 0.0,
    written: bool = False,
) -> None:
    recipe = {**RECIPE, "checkpoint": {"every_seconds": every_seconds}}
    observers = [KillAt(kill_at, written)] if kill_at else []
    descend.train(data(), recipe, seed=3, out=folder, resume=resume, observers=observers)


def main(folder: Path) -> None:
    Recipe.of(RECIPE)  # checked once for all children: the first check builds the schemas of the parameters
    assert exit_status(lambda: train(folder / "whole")) == 0
    steps = json.loads((folder / "whole" / "metrics.json").read_text())["steps"]
    outcome = {}
    for how, every in (("each_step", 0.0), ("written", 0.0), ("each_epoch", 60.0)):
        for step in range(1, steps + 1):
            run = folder / f"{how}-{step}"
            written = how == "written"
            killed = exit_status(partial(train, run, kill_at=step, every_seconds=every, written=written))
            saved = (run / "checkpoints" / "last.safetensors").exists()
            resumed = exit_status(partial(train, run, resume=True, every_seconds=every))
            outcome[run.name] = {"killed": killed, "resumed": resumed, "saved": saved}
    print(json.dumps({"steps": steps, "outcome": outcome}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
