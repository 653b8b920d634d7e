"""What a contender is: the problem it is given, the run it prepares, the timing it returns.

Every contender is asked the same two things. ``prepare(problem, seed)`` does what its user does once, outside
the clock: convert arrays, import the library. The ``run(epochs)`` it returns is one whole fit from fresh
weights, and only the fit call is on its clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["LEARNING_RATE", "Contender", "Prepare", "Problem", "Run", "Threads", "Timing"]

LEARNING_RATE = 1e-3
"""Adam's, for everybody."""

Threads = Literal["default", "best", "own"]
"""Who chooses the number of CPU threads: the library's default, the benchmark by measuring, the contender."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A classification problem and the network that everybody trains on it.

    Args:
        name: "small" or "large".
        source: where the rows come from.
        widths: units of each layer, inputs first, logits last; ReLU between.
        batch_size: rows of a step; the last batch of an epoch is smaller and is kept.
        x_train: (n, d) float32 in [0, 1]; (n, C, H, W) where the networks are convolutional.
        y_train: (n,) int64.
        x_validation: (m, d) float32.
        y_validation: (m,) int64.
    """

    name: str
    source: str
    widths: tuple[int, ...]
    batch_size: int
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.x_train) // self.batch_size)


@dataclass(frozen=True)
class Timing:
    """One fit.

    Args:
        steps: optimizer steps, counted by the contender itself wherever it can count.
        seconds: of the fit call, validation included, preparation excluded.
        validation_accuracy: after the last epoch.
        threads: the CPU threads it used, where it chose them itself.
        evidence: what it left behind that shows what was on, such as "12 history lines".
    """

    steps: int
    seconds: float
    validation_accuracy: float
    threads: int | None = None
    evidence: str = ""


Run = Callable[[int], Timing]
Prepare = Callable[[Problem, int], Run]


@dataclass(frozen=True)
class Contender:
    """A way to train.

    Args:
        name: as in the tables and in ``--contenders``.
        on: what is switched on, off, or different from the others; printed with the figures.
        packages: what must be importable.
        variants: ways to write the same thing; the fastest is found first and kept, all are reported.
        threads: who chooses the number of threads.
        sizes: problems it takes part in.
        extra: left out unless asked for by name or by ``--contenders all``.
    """

    name: str
    on: str
    packages: tuple[str, ...]
    variants: Mapping[str, Prepare]
    threads: Threads = "default"
    sizes: tuple[str, ...] = ("small", "large")
    extra: bool = False
