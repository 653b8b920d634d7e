"""Interface of a contender: the problem it receives, the function it prepares, the timing it returns.

``prepare(problem, seed)`` does what a user does once, such as importing the library and converting arrays; it is not
timed. It returns ``run(epochs)``, one complete fit from new weights, which times only the call that fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["LEARNING_RATE", "Contender", "Prepare", "Problem", "Run", "Threads", "Timing"]

LEARNING_RATE = 1e-3
"""Adam's learning rate, for all contenders."""

Threads = Literal["default", "best", "own"]
"""How the number of CPU threads is chosen: default of the library, fastest in a measurement, or by the contender."""


@dataclass(frozen=True, eq=False)
class Problem:
    """A classification problem and the network that all contenders train on it.

    Args:
        name: "small", "large" or "images".
        source: origin of the rows.
        widths: number of units of each layer, from inputs to logits, with ReLU between layers; where the network is
            convolutional, of the dense layers that follow the last pooling.
        batch_size: rows per step; the smaller last batch of an epoch is kept.
        x_train: (n, d) float32 in [0, 1]; (n, C, H, W) where the networks are convolutional.
        y_train: (n,) int64.
        x_validation: (m, d) float32.
        y_validation: (m,) int64.
        channels: output channels of each 3 × 3 convolution, followed by ReLU and 2 × 2 max pooling; empty for an MLP.
    """

    name: str
    source: str
    widths: tuple[int, ...]
    batch_size: int
    x_train: np.ndarray
    y_train: np.ndarray
    x_validation: np.ndarray
    y_validation: np.ndarray
    channels: tuple[int, ...] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches of an epoch, including the smaller last one."""
        return -(-len(self.x_train) // self.batch_size)


@dataclass(frozen=True)
class Timing:
    """Timing and result of one fit.

    Args:
        steps: number of optimizer steps, counted by the contender itself where possible.
        seconds: wall time of the fit, including validation, without preparation.
        validation_accuracy: accuracy after the last epoch.
        threads: number of CPU threads, if the contender chose it.
        evidence: output that shows which features were on, such as "12 history lines".
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
    """A way to train one network.

    Args:
        name: name in the tables and in ``--contenders``.
        on: which features are on, off or different from the other contenders; printed below the table.
        packages: packages that must be installed.
        variants: alternative implementations; the fastest is selected before the benchmark, and all are reported.
        threads: how the number of threads is chosen.
        sizes: problems that include this contender.
        extra: whether it runs only if ``--contenders`` names it or is "all".
    """

    name: str
    on: str
    packages: tuple[str, ...]
    variants: Mapping[str, Prepare]
    threads: Threads = "default"
    sizes: tuple[str, ...] = ("small", "large")
    extra: bool = False
