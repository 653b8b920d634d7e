"""A program that trains in two workers until it is interrupted; it prints what the test needs as lines."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import numpy as np

from descend.errors import Interrupted
from descend.many import train_many


class EpochAnnouncer:
    """Prints a line when each of two members has finished two epochs."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()

    def epoch_ended(self, number: int, record: dict) -> None:
        self.seen.add((number, record["epoch"]))
        if {(0, 2), (1, 2)} <= self.seen:
            self.seen.clear()
            print("two epochs of two members", flush=True)

    def finished(self, number: int, run: object) -> None:
        pass


def main(folder: Path) -> None:
    rng = np.random.default_rng(7)
    rows = rng.normal(size=(90, 6))
    recipe = {
        "model": {"hidden": [8]},
        "stop": {"max_epochs": 10**6, "patience": "none"},
        "schedule": {"name": "constant"},
        "engine": {"device": "cpu", "threads": 1},
    }
    try:
        train_many(
            [recipe] * 3,
            (rows, (rows[:, 0] > 0).astype(int)),
            engine="loop",
            workers=2,
            out=folder,
            watchers=[EpochAnnouncer()],
        )
    except Interrupted as cause:
        children = [child.pid for child in multiprocessing.active_children()]
        print(json.dumps({"interrupted": str(cause), "children": children}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
