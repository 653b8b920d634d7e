"""Train in forked processes that kill themselves (SIGKILL) after a given step, then resume each in a new process.

Usage: ``python kill_every_step.py FOLDER``. It prints a JSON object with the number of steps and the outcome of each run.
It is a separate program so that each child process is forked from a clean process that has imported everything once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import polars  # noqa: F401 - imported once for all children, but not used before the fork, which would start threads
import torch._dynamo  # noqa: F401 - otherwise the first optimizer imports it in each child, which takes seconds

import descend
import descend.api
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


def in_child(*arguments, **options) -> int:
    """Train in a child process and return its exit status, the negative signal number if a signal ended it."""
    child = os.fork()
    if child == 0:
        try:
            train(*arguments, **options)
        except BaseException as cause:
            print(type(cause).__name__, cause, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    assert in_child(folder / "whole") == 0
    steps = json.loads((folder / "whole" / "metrics.json").read_text())["steps"]
    outcome = {}
    for how, every in (("each_step", 0.0), ("written", 0.0), ("each_epoch", 60.0)):
        for step in range(1, steps + 1):
            run = folder / f"{how}-{step}"
            killed = in_child(run, kill_at=step, every_seconds=every, written=how == "written")
            saved = (run / "checkpoints" / "last.safetensors").exists()
            resumed = in_child(run, resume=True, every_seconds=every)
            outcome[run.name] = {"killed": killed, "resumed": resumed, "saved": saved}
    print(json.dumps({"steps": steps, "outcome": outcome}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
