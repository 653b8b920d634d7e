"""The schedule that lowers the learning rate when a loss stops improving."""

from __future__ import annotations

import math
from typing import Literal

from descend.cards import method
from descend.param_types import Natural, NonNegative, Probability, Share
from descend.schedules.base import Schedule, ramp_factor

__all__ = ["Plateau", "plateau"]


class Plateau(Schedule):
    """The schedule of :func:`plateau`, with its state.

    Args:
        factor: the factor of each reduction.
        patience: the number of epochs without improvement that are tolerated.
        threshold: the relative decrease that counts as improvement.
        monitor: the loss to pass to :meth:`observe`.
        min_factor: the smallest fraction of the base learning rate.
        ramp: the number of steps of linear warm-up. Default 0.

    >>> schedule = Plateau(factor=0.1, patience=0, threshold=0.0, monitor="objective", min_factor=0.0)
    >>> schedule.observe(1.0); schedule.observe(2.0); schedule.factor(0)
    0.1
    """

    def __init__(
        self,
        factor: float,
        patience: int,
        threshold: float,
        monitor: Literal["validation", "objective"],
        min_factor: float,
        *,
        ramp: float = 0.0,
    ) -> None:
        self.monitor = monitor
        self._factor = factor
        self._patience = patience
        self._threshold = threshold
        self._min_factor = min_factor
        self._ramp = ramp
        self._current = 1.0
        self._best = math.inf
        self._bad_epochs = 0

    def factor(self, step: int) -> float:
        """Return the factor of the base learning rate at a step."""
        return ramp_factor(step, self._ramp) * self._current

    def observe(self, value: float) -> None:
        """Count epochs without improvement; reduce the learning rate after more than ``patience`` of them."""
        if value < self._best * (1.0 - self._threshold):
            self._best = value
            self._bad_epochs = 0
            return
        self._bad_epochs += 1
        if self._bad_epochs > self._patience:
            self._current = max(self._current * self._factor, self._min_factor)
            self._bad_epochs = 0

    def state_dict(self) -> dict[str, float | int]:
        """Return the current factor, the best loss (if any) and the number of epochs without improvement."""
        best = {} if math.isinf(self._best) else {"best": self._best}
        return {"factor": self._current, "bad_epochs": self._bad_epochs, **best}

    def load_state_dict(self, state: dict[str, float | int]) -> None:
        """Restore a state returned by :meth:`state_dict`."""
        self._current = float(state["factor"])
        self._bad_epochs = int(state["bad_epochs"])
        self._best = float(state.get("best", math.inf))


@method(
    row="D16",
    reference="torch.optim.lr_scheduler.ReduceLROnPlateau",
    formula="t <- f t after more than p epochs without loss < best (1 - threshold)",
    note="PyTorch's mode 'min' with a relative threshold and no cooldown.",
)
def plateau(
    steps_per_epoch: int,
    total_steps: int,
    *,
    factor: Share = 0.1,
    patience: Natural = 10,
    threshold: Probability = 1e-4,
    monitor: Literal["validation", "objective"] = "validation",
    min_factor: Probability = 0.0,
    warmup: NonNegative = 0.0,
) -> Schedule:
    """Reduce the learning rate by ``factor`` when a loss has stopped improving.

    Args:
        steps_per_epoch: the optimizer's steps in an epoch.
        total_steps: not used.
        factor: f, below 1. Default 0.1.
        patience: p, the number of epochs without improvement that are tolerated. Default 10.
        threshold: the relative decrease that counts as improvement. Default 1e-4.
        monitor: the ``"validation"`` loss, or ``"objective"`` for the training loss. Default ``"validation"``.
        min_factor: the smallest fraction of the base learning rate. Default 0.
        warmup: epochs of linear warm-up. Default 0.

    >>> schedule = plateau(10, 100, patience=1)
    >>> for loss in (1.0, 1.0, 1.0): schedule.observe(loss)
    >>> schedule.factor(30)
    0.1
    """
    return Plateau(factor, patience, threshold, monitor, min_factor, ramp=warmup * steps_per_epoch)
