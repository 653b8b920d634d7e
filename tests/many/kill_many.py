"""A program that trains several variants and kills itself after a number of epochs."""

from __future__ import annotations

import os
import signal
import sys

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


def main(out: str, after: int, resume: bool) -> None:
    watchers = [Killer(after)] if after else []
    descend.train_many(RECIPES, "iris", seeds=[0, 1, 2, 3], out=out, resume=resume, watchers=watchers)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume")
