"""Averaging of weights over recent steps.

Steps with a constant learning rate end up wandering around a minimum. The average of recent weights lies nearer to it
than any of them, and has the effect of a decaying learning rate without requiring the length of training in advance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.optim.wrapper import evaluation_weights, has_evaluation_weights

__all__ = ["Average", "OptimizerWeights", "WeightAverage", "build_average"]

Settle = Callable[[Sequence[Tensor]], None]
"""A function of the last weights that brings their average, held by the parameters, into a set."""


class Average(Protocol):
    """Weights that are evaluated and kept in place of the last ones."""

    def update(self, step: int) -> None:
        """Include the weights after 1-based ``step``."""

    def applied(self) -> AbstractContextManager[None]:
        """Context in which the parameters hold the weights to evaluate."""

    def state_dict(self) -> dict[str, Any]:
        """Return what belongs to a checkpoint."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`state_dict`."""


def build_average(
    parameters: Sequence[Tensor],
    epochs: float,
    steps_per_epoch: int,
    settle: Settle | None = None,
    optimizer: Optimizer | None = None,
) -> Average | None:
    """Build the average of a recipe's ``stop.average``, a horizon in epochs.

    Where it is 0, the weights that the optimizer keeps for evaluation, as schedule-free methods do, or None.

    >>> build_average([torch.zeros(1)], 0.5, 10).horizon
    5.0
    """
    if epochs:
        return WeightAverage(parameters, epochs * steps_per_epoch, settle)
    return (
        OptimizerWeights(optimizer) if optimizer is not None and has_evaluation_weights(optimizer) else None
    )


class OptimizerWeights:
    """The weights that an optimizer keeps for evaluation, such as the average of a schedule-free method.

    They are part of the optimizer's state.

    Args:
        optimizer: an optimizer with ``evaluation_weights``.
    """

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def update(self, step: int) -> None:
        """Do nothing: the optimizer has updated them in its step."""

    def applied(self) -> AbstractContextManager[None]:
        """Context in which the parameters hold these weights."""
        return evaluation_weights(self._optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""


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
