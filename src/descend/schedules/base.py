"""The interface of a learning-rate schedule, and schedules in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, Protocol

__all__ = ["ClosedForm", "Per", "Schedule", "counter", "ramp_factor", "share_of_training"]

Per = Literal["step", "epoch"]
"""The unit of the index k of a schedule."""


class Schedule(Protocol):
    """The interface of a schedule. All methods but :meth:`factor` have defaults for schedules without a state."""

    def factor(self, step: int) -> float:
        """Return the factor of the base learning rate at a step, counted from 0 over the whole training."""
        ...

    def observe(self, value: float) -> None:
        """Receive the monitored loss, once per epoch; lower is better."""
        return

    def state_dict(self) -> dict[str, float | int]:
        """Return the state that a resumed run needs; empty for closed forms."""
        return {}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore a state returned by :meth:`state_dict`."""
        return


class ClosedForm(Schedule):
    """A schedule that is a function of the step only.

    Args:
        function: returns the factor at a step.
        ramp: the number of steps of a linear warm-up that multiplies the factor. Default 0.

    >>> ClosedForm(lambda step: 0.5**step, ramp=4).factor(1)
    0.25
    """

    def __init__(self, function: Callable[[int], float], *, ramp: float = 0.0) -> None:
        self._function = function
        self._ramp = ramp

    def factor(self, step: int) -> float:
        """Return the factor of the base learning rate at a step."""
        return ramp_factor(step, self._ramp) * self._function(step)


def ramp_factor(step: int, ramp: float) -> float:
    """Return the factor of a linear warm-up of ``ramp`` steps."""
    return min(1.0, (step + 1) / ramp) if ramp > 0 else 1.0


def counter(per: Per, steps_per_epoch: int) -> Callable[[int], int]:
    """Return the function that converts a step into the index k of a formula."""
    return (lambda step: step) if per == "step" else (lambda step: step // steps_per_epoch)


def share_of_training(per: Per, steps_per_epoch: int, total_steps: int) -> Callable[[int], float]:
    """Return the function that converts a step into the share k/K of the training, at most 1.

    >>> share_of_training("epoch", 10, 100)(25)
    0.2
    """
    k = counter(per, steps_per_epoch)
    length = max(1, total_steps if per == "step" else math.ceil(total_steps / steps_per_epoch))
    return lambda step: min(1.0, k(step) / length)
