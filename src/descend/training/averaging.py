"""Averaging of weights over recent steps.

Steps with a constant rate end up wandering around a minimum; the average of recent weights lies nearer to it than
any of them, and does what a decaying rate would do without having to know when training will end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

__all__ = ["WeightAverage"]


class WeightAverage:
    """Exponential moving average of parameters.

    After step t = 1, 2, ... the average a of the weights w is

        a <- d a + (1 - d) w,    d = min(exp(-1 / horizon), (1 + t) / (10 + t)),

    so that it forgets its start quickly and then remembers about ``horizon`` steps.

    Args:
        parameters: what is averaged; they are changed only within :meth:`applied`.
        horizon: in steps, above 0.
        settle: called within :meth:`applied` once the parameters hold the average, with their own values, to bring
            the average into a set that it may have left: constraints need not survive averaging.

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

    def __init__(
        self,
        parameters: Sequence[Tensor],
        horizon: float,
        settle: Callable[[Sequence[Tensor]], None] | None = None,
    ) -> None:
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
        """Inside, the parameters hold the average; afterwards, their own values again, bit for bit."""
        own = [weight.clone() for weight in self._weights]
        torch._foreach_copy_(self._weights, self._average)
        try:
            if self._settle is not None:
                self._settle(own)
            yield
        finally:
            torch._foreach_copy_(self._weights, own)

    def state_dict(self) -> dict[str, Any]:
        """The average."""
        return {"average": list(self._average)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        torch._foreach_copy_(
            self._average, [each.to(w) for each, w in zip(state["average"], self._weights, strict=True)]
        )
