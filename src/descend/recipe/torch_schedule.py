"""A scheduler of PyTorch's as a schedule of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

__all__ = ["TorchSchedule"]


class TorchSchedule:
    """A scheduler of PyTorch's, stepped once per training step, as a factor of the base rate."""

    def __init__(self, make: Callable[[torch.optim.Optimizer], Any]) -> None:
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        self._scheduler = make(self._optimizer)
        self._factors = [self._rate()]

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def factor(self, step: int) -> float:
        """The factor before a step. It is stepped as far as it was asked for, and remembers the way."""
        while len(self._factors) <= step:
            self._optimizer.step()
            self._scheduler.step()
            self._factors.append(self._rate())
        return self._factors[step]

    def observe(self, value: float) -> None:
        """PyTorch's scheduler is stepped by number and does not listen."""

    def state_dict(self) -> dict[str, float | int]:
        """Nothing: the steps taken determine it."""
        return {}

    def load_state_dict(self, state: Mapping[str, float | int]) -> None:
        """Nothing to restore: it is stepped to where it is asked for."""
