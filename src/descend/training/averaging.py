"""Averaging of weights over recent steps.

Steps with a constant learning rate end up wandering around a minimum. The average of recent weights lies nearer to it
than any of them, and has the effect of a decaying learning rate without requiring the length of training in advance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["WeightAverage", "build_average"]

Settle = Callable[[Sequence[Tensor]], None]
"""A function of the last weights that brings their average, held by the parameters, into a set."""


def build_average(
    parameters: Sequence[Tensor], epochs: float, steps_per_epoch: int, settle: Settle | None = None
) -> WeightAverage | None:
    """Build the average of a recipe's ``stop.average``, a horizon in epochs; None where it is 0.

    >>> build_average([torch.zeros(1)], 0.5, 10).horizon
    5.0
    """
    return WeightAverage(parameters, epochs * steps_per_epoch, settle) if epochs else None


class WeightAverage:
    """Exponential moving average of parameters.

    After step t = 1, 2, ... the average a of the weights w is

        a <- d a + (1 - d) w,    d = min(exp(-1 / horizon), (1 + t) / (10 + t)),

    so that it forgets the initial weights quickly and then covers about ``horizon`` steps.

    Args:
        parameters: the averaged tensors; they are changed only within :meth:`applied`.
        horizon: in steps, above 0.
        settle: called within :meth:`applied` once the parameters hold the average, with their own values, to bring
            the average into a set that it may have left, since averaging need not preserve constraints.

    Source: Polyak and Juditsky 1992; the start-up rule is that of TensorFlow's ExponentialMovingAverage.

    >>> w = torch.nn.Parameter(torch.zeros(1))
    >>> average = WeightAverage([w], horizon=1e9)
    >>> with torch.no_grad():
    ...     _ = w.fill_(11.0)
    >>> average.update(1)
    >>> with average.applied():
    ...     round(w.item(), 4)
    9.0
    >>> w.item()
    11.0
    """

    def __init__(self, parameters: Sequence[Tensor], horizon: float, settle: Settle | None = None) -> None:
        self.horizon, self._settle = horizon, settle
        self._weights = [p.detach() for p in parameters]
        self._average = [p.clone() for p in self._weights]
        self._decay = math.exp(-1.0 / horizon)

    def decay_at(self, step: int) -> float:
        """Return the decay d at 1-based ``step``."""
        return min(self._decay, (1 + step) / (10 + step))

    def update(self, step: int) -> None:
        """Include the weights after 1-based ``step`` in the average."""
        torch._foreach_lerp_(self._average, self._weights, 1.0 - self.decay_at(step))

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Context in which the parameters hold the average; on exit their own values are restored bit for bit."""
        own = [weight.clone() for weight in self._weights]
        torch._foreach_copy_(self._weights, self._average)
        try:
            if self._settle is not None:
                self._settle(own)
            yield
        finally:
            torch._foreach_copy_(self._weights, own)

    def state_dict(self) -> dict[str, Any]:
        """Return the average."""
        return {"average": list(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the average returned by :meth:`state_dict`."""
        torch._foreach_copy_(
            self._average, [each.to(w) for each, w in zip(state["average"], self._weights, strict=True)]
        )
