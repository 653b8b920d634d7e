"""The end of the time of a search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from descend.training.observers import Quiet

__all__ = ["Deadline"]


class Deadline(Quiet):
    """Observer that requests a training, or a pack, to stop once the time is spent.

    The first epoch is always completed, so that the network has weights to use.

    Args:
        seconds: the time that may be spent.
        spent: the time that was spent before now.
        clock: returns the current time in seconds.

    >>> times = iter([0.0, 5.0, 11.0])
    >>> deadline = Deadline(10.0, 0.0, lambda: next(times))
    >>> deadline.spent, deadline.passed
    (5.0, True)
    """

    def __init__(self, seconds: float, spent: float, clock: Callable[[], float]) -> None:
        self.seconds, self._before, self._clock = seconds, spent, clock
        self._started = clock()

    @property
    def spent(self) -> float:
        """The seconds that have been spent."""
        return self._before + self._clock() - self._started

    @property
    def passed(self) -> bool:
        """Whether the time is spent."""
        return self.spent >= self.seconds

    def stepped(self, training: Any) -> None:
        """Request to stop if the time is spent."""
        if training.epoch and self.passed:
            training.stop_requested = True
