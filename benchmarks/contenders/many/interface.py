"""What a way to train many networks is: the variants it is given, what came of them, and in what time.

``prepare(many)`` is entered once: it does what its user does once, outside the clock, such as starting processes.
What it gives is called once a turn, with a seed, and trains all variants, or as many as the contender's share.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from torch import nn

from contenders.contract import Problem

__all__ = ["Many", "ManyContender", "Outcome", "Prepare", "Runner", "Variant"]


@dataclass(frozen=True)
class Variant:
    """One network to train.

    Args:
        rate: Adam's learning rate.
        model: the ``[model]`` section of descend's recipe.
        build: the same network for a loop by hand. It can be sent to another process.
    """

    rate: float
    model: Mapping[str, Any]
    build: Callable[[], nn.Module]


@dataclass(frozen=True, eq=False)
class Many:
    """What everybody trains.

    Args:
        problem: rows and batch size.
        variants: the networks, in everybody's order.
        epochs: of each.
        device: "cpu" or "cuda".
    """

    problem: Problem
    variants: tuple[Variant, ...]
    epochs: int
    device: str = "cpu"


@dataclass(frozen=True)
class Outcome:
    """One turn.

    Args:
        seconds: of the training of all these networks.
        accuracies: on the validation rows after the last epoch, a variant each.
        steps: of all networks, where they are counted.
        evidence: what shows how it was done, such as the engine that was chosen.
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
        name: as in the tables.
        on: what is switched on, off, or different from the others.
        packages: what must be importable.
        prepare: see above.
        share: how many variants it trains, which may stand for all; None for all.
        first: the place of the first of them.
        threads: CPU threads of this process; None for PyTorch's default.
    """

    name: str
    on: str
    packages: tuple[str, ...]
    prepare: Prepare
    share: int | None = None
    first: int = 0
    threads: int | None = None

    def places(self, many: Many) -> range:
        """Of the variants that it trains.

        >>> from contextlib import nullcontext
        >>> contender = ManyContender("a", "", (), nullcontext, share=2, first=1)
        >>> contender.places(Many(None, (None,) * 9, 1))
        range(1, 3)
        """
        count = len(many.variants)
        return range(self.first, count if self.share is None else min(count, self.first + self.share))
