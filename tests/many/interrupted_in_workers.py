"""Trains endlessly in two workers until somebody interrupts it; prints what is there to see as lines of JSON."""

from __future__ import annotations

import json
import multiprocessing
import sys
from pathlib import Path

import numpy as np

from descend.errors import Interrupted
from descend.many import train_many


class Watch:
    """Says when both have done two epochs."""

    def __init__(self) -> None:
        self.seen: set[tuple[int, int]] = set()

    def epoch_ended(self, number: int, record: dict) -> None:
        self.seen.add((number, record["epoch"]))
        if {(0, 2), (1, 2)} <= self.seen:
            self.seen.clear()
            print("two epochs of each of two", flush=True)

    def finished(self, number: int, run: object) -> None:
        pass


def main(folder: Path) -> None:
    draw = np.random.default_rng(7)
    rows = draw.normal(size=(90, 6))
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
            watchers=[Watch()],
        )
    except Interrupted as cause:
        children = [child.pid for child in multiprocessing.active_children()]
        print(json.dumps({"interrupted": str(cause), "children": children}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
