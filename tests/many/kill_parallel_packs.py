"""A program that trains eight variants in two packs, each in a worker, and kills itself after a number of epochs."""

from __future__ import annotations

import os
import signal
import sys

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


def main(out: str, after: int, resume: bool) -> None:
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


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "resume")
