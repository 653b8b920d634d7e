"""Settings that change during training: weight decay and dropout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from descend.schedules import Schedule

__all__ = ["Scheduled"]


@dataclass(frozen=True)
class Scheduled:
    """A setting that is multiplied by the factor of a schedule before each step.

    Args:
        schedule: in closed form.
        apply: a function that sets the setting to its base value times a factor.

    >>> from descend.schedules import flat_cosine
    >>> factors = []
    >>> Scheduled(flat_cosine(10, 100), factors.append).begin_step(75); factors
    [0.5]
    """

    schedule: Schedule
    apply: Callable[[float], None]

    def begin_step(self, step: int) -> None:
        """Set the setting for a step, counted from 0."""
        self.apply(self.schedule.factor(step))
