"""Interface of a contender that trains many networks: the networks it receives and the outcome it returns.

``prepare(many)`` is a context manager, entered once. It does what a user does once, such as starting processes, and is
not timed. It returns a function that is called with a seed once per repetition and trains all networks it received.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

from contenders.interface import Problem

__all__ = ["Many", "ManyContender", "Outcome", "Prepare", "Runner", "Variant"]


@dataclass(frozen=True)
class Variant:
    """One network to train.

    Args:
        learning_rate: Adam's learning rate.
        model: the ``[model]`` section of descend's recipe.
        build: builds the same network for hand-written loops; must be picklable.
    """

    learning_rate: float
    model: Mapping[str, Any]
    build: Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class Many:
    """The networks to train, the same for all contenders.

    Args:
        problem: rows and batch size.
        variants: the networks.
        epochs: epochs per network.
        device: "cpu" or "cuda".
    """

    problem: Problem
    variants: tuple[Variant, ...]
    epochs: int
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """Timing and results of training all networks once.

    Args:
        seconds: wall time for all of these networks.
        accuracies: validation accuracy of each network after the last epoch.
        steps: total number of steps, if the contender counts them.
        evidence: output that shows how the networks were trained, such as the chosen engine.
    """

    seconds: float
    accuracies: list[float]
    steps: int | None = None
    evidence: str = ""


Runner = Callable[[int], Outcome]
Prepare = Callable[[Many], AbstractContextManager[Runner]]


@dataclass(frozen=True)
class ManyContender:
    """A way to train many networks.

    Args:
        name: name in the tables.
        on: which features are on, off or different from the other contenders.
        packages: packages that must be installed.
        prepare: context manager that returns the function that trains, as described above.
        count: number of networks it trains, from which the time for all is extrapolated; None for all.
        first: index of the first of these networks.
        threads: CPU threads of this process; None for PyTorch's default.
    """

    name: str
    on: str
    packages: tuple[str, ...]
    prepare: Prepare
    count: int | None = None
    first: int = 0
    threads: int | None = None

    def indices(self, many: Many) -> range:
        """Return the indices of the networks that it trains.

        >>> from contextlib import nullcontext
        >>> contender = ManyContender("a", "", (), nullcontext, count=2, first=1)
        >>> contender.indices(Many(None, (None,) * 9, 1))
        range(1, 3)
        """
        total = len(many.variants)
        return range(self.first, total if self.count is None else min(total, self.first + self.count))
