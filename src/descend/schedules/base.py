"""What a schedule is: the factor that multiplies every base learning rate at a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

__all__ = ["ClosedForm", "Per", "Schedule", "counter", "ramp_factor"]

Per = Literal["step", "epoch"]
"""What the index k of a schedule counts."""


class Schedule(Protocol):
    """What the loop asks of a schedule. All but :meth:`factor` have a default, for those without a state."""

    def factor(self, step: int) -> float:
        """The factor of the base rate for the step of this number, counted from 0 over the whole training."""
        ...

    def observe(self, value: float) -> None:
        """Told once per epoch: the loss that the schedule watches, lower is better."""
        return

    def state_dict(self) -> dict[str, float | int]:
        """What a resumed run needs; empty for closed forms."""
        return {}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Take over a saved state."""
        return


class ClosedForm(Schedule):
    """A schedule that is a function of the step alone.

    Args:
        function: step → factor.
        ramp: the number of steps of linear warm-up multiplied in front. Default 0.

    >>> ClosedForm(lambda step: 0.5**step, ramp=4).factor(1)
    0.25
    """

    def __init__(self, function: Callable[[int], float], *, ramp: float = 0.0) -> None:
        self._function = function
        self._ramp = ramp

    def factor(self, step: int) -> float:
        """The factor of the base rate for a step."""
        return ramp_factor(step, self._ramp) * self._function(step)


def ramp_factor(step: int, ramp: float) -> float:
    """The factor of a linear warm-up of ``ramp`` steps."""
    return min(1.0, (step + 1) / ramp) if ramp > 0 else 1.0


def counter(per: Per, steps_per_epoch: int) -> Callable[[int], int]:
    """The k of a formula at a step."""
    return (lambda step: step) if per == "step" else (lambda step: step // steps_per_epoch)
