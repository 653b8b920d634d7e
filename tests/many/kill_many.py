"""Train several variants in processes that kill themselves after a number of epochs, then resume each in a new process.

Usage: ``python -m tests.many.kill_many FOLDER``. It prints a JSON object: the exit statuses of each run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

from tests.support.forks import exit_status

import descend

RECIPES = [
    {
        "model": {"hidden": [12, 12], "dropout": 0.1, "activation": activation},
        "optimizer": {"lr": lr},
        "stop": {"max_epochs": epochs, "patience": "none"},
        "checkpoint": {"every_seconds": 0.0},
        "engine": {"threads": 1},
    }
    for activation, lr, epochs in [("relu", 1e-3, 3), ("tanh", 1e-2, 6), ("relu", 3e-3, 6)]
] + [{"model": {"name": "linear"}, "stop": {"max_epochs": 3}, "engine": {"threads": 1}}]


class Killer:
    def __init__(self, after: int) -> None:
        self.after, self.seen = after, 0

    def epoch_ended(self, number: int, record: dict) -> None:
        self.seen += 1
        if self.seen == self.after:
            os.kill(os.getpid(), signal.SIGKILL)

    def finished(self, number: int, run: object) -> None:
        pass


def train(out: Path, *, after: int = 0, resume: bool = False) -> None:
    watchers = [Killer(after)] if after else []
    descend.train_many(RECIPES, "iris", seeds=[0, 1, 2, 3], out=out, resume=resume, watchers=watchers)


def main(folder: Path) -> None:
    outcome = {"whole": [exit_status(partial(train, folder / "whole"))]}
    for after in (2, 5, 11):
        out = folder / f"killed-{after}"
        outcome[out.name] = [
            exit_status(partial(train, out, after=after)),
            exit_status(partial(train, out, resume=True)),
        ]
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
