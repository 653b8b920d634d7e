"""Train eight variants in two packs, each in a worker, in processes that kill themselves after a number of epochs, then
resume each in a new process.

Usage: ``python -m tests.many.kill_parallel_packs FOLDER``. It prints a JSON object: the exit statuses of each run.
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
        "model": {"hidden": [12, 12], "dropout": 0.1},
        "optimizer": {"lr": 1e-3 * 1.5**place},
        "stop": {"max_epochs": 2 + place, "patience": "none"},
        "checkpoint": {"every_seconds": 0.0},
        "engine": {"threads": 1},
    }
    for place in range(8)
]


class Killer:
    """Kills this process after a number of epochs."""

    def __init__(self, after: int) -> None:
        self.left = after

    def epoch_ended(self, number: int, record: dict) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def finished(self, number: int, run: object) -> None:
        pass


def train(out: Path, *, after: int = 0, resume: bool = False) -> None:
    descend.train_many(
        RECIPES,
        "iris",
        seeds=3,
        out=out,
        resume=resume,
        engine="packed",
        workers=2,
        watchers=[Killer(after)] if after else [],
    )


def main(folder: Path) -> None:
    outcome = {"whole": [exit_status(partial(train, folder / "whole"))]}
    for after in (4, 14):  # before any member has stopped, and after some have
        out = folder / f"killed-{after}"
        outcome[out.name] = [
            exit_status(partial(train, out, after=after)),
            exit_status(partial(train, out, resume=True)),
        ]
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
