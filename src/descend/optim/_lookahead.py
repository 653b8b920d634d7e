"""Lookahead: k steps forward, one step back.

The wrapped optimizer takes k steps from the slow weights φ to the fast weights θ. The slow weights move a part of the way,
φ ← φ + α (θ − φ), and the next k steps start there. The interpolation averages out the noise of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import checked_settings
from descend.optim.wrapper import Wrapper, has_evaluation_weights, require_gradient_steps, tensors_of
from descend.param_types import Count, Portion

__all__ = ["Lookahead", "lookahead"]

_SLOW = "lookahead_slow"
"""The key of slow weights in a saved state."""


@method(
    row="K4",
    reference="Zhang, Lucas, Hinton and Ba 2019",
    formula="phi <- phi + a (theta - phi); theta <- phi, every k steps of the wrapped optimizer, which moves theta",
    note="The state of the wrapped optimizer, such as momentum, is kept when the fast weights are reset. The slow weights "
    "are evaluated; with [stop] average, the average of the fast weights instead.",
)
@final
class Lookahead(Wrapper):
    """Lookahead: every few steps of another optimizer, the weights return part of the way to where these steps started.

    Between steps the parameters hold the fast weights; :meth:`evaluation_weights` is the context in which they hold the slow
    ones. The slow weights are one number for each parameter; they are saved with the state of the parameters.

    Args:
        optimizer: any optimizer of gradients, such as ``adamw(model.parameters())``.
        steps: k, the number of steps of the optimizer between two interpolations. Default 5.
        alpha: α, the part of the way from the slow to the fast weights. Default 0.5.

    Raises:
        UserError: a setting is outside its domain; the optimizer has a line search, a trust region or needs second
            derivatives, or evaluates other weights itself.

    >>> w = torch.tensor([4.0], requires_grad=True)
    >>> optimizer = Lookahead(torch.optim.SGD([w], lr=1.0), steps=2, alpha=0.25)
    >>> for _ in range(2):
    ...     optimizer.zero_grad(); w.sum().backward(); optimizer.step()
    >>> w.item()  # 4 - (1 + 1) / 4
    3.5
    """

    def __init__(self, optimizer: Optimizer, steps: Count = 5, alpha: Portion = 0.5) -> None:
        settings = checked_settings(type(self), {"steps": steps, "alpha": alpha})
        require_gradient_steps(
            optimizer, "lookahead", "it accepts a step by the loss, and the interpolation would undo it"
        )
        if has_evaluation_weights(optimizer):
            other = getattr(optimizer, "name", type(optimizer).__name__)
            raise UserError(f"lookahead cannot wrap {other}, which evaluates weights of its own")
        super().__init__(
            optimizer,
            {f"lookahead_{name}": value for name, value in settings.items()} | {"lookahead_step": 0},
        )
        self._slow: dict[Tensor, Tensor] = {}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step of the wrapped optimizer, and every ``steps`` steps interpolate; return the loss of the step."""
        group = self.param_groups[0]
        if not self._slow:
            self._slow = {p: p.detach().clone() for p in tensors_of(self)}
        loss = self.take_step(closure)
        count = group["lookahead_step"] + 1
        if count >= group["lookahead_steps"]:
            count = 0
            for p, slow in self._slow.items():
                p.copy_(slow.lerp_(p, group["lookahead_alpha"]))
            self._slow = {}
        for each in self.param_groups:
            each["lookahead_step"] = count
        return loss

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Context in which the parameters hold the slow weights; on exit the fast ones are restored bit for bit."""
        fast = {p: p.detach().clone() for p in self._slow}
        with torch.no_grad():
            for p, slow in self._slow.items():
                p.copy_(slow)
        try:
            yield
        finally:
            with torch.no_grad():
                for p, own in fast.items():
                    p.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the wrapped optimizer, with the slow weights of each parameter."""
        result = self.optimizer.state_dict()
        state = {key: dict(own) for key, own in result["state"].items()}
        for number, p in enumerate(tensors_of(self)):
            if p in self._slow:
                state.setdefault(number, {})[_SLOW] = self._slow[p]
        return {**result, "state": state}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`."""
        slow = {key: own[_SLOW] for key, own in state_dict["state"].items() if _SLOW in own}
        state = {
            key: {name: value for name, value in own.items() if name != _SLOW}
            for key, own in state_dict["state"].items()
        }
        super().load_state_dict({**state_dict, "state": {key: own for key, own in state.items() if own}})
        parameters = tensors_of(self)
        self._slow = {parameters[key]: value.to(parameters[key], copy=True) for key, value in slow.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs."""
        return {**super().__getstate__(), "_slow": self._slow}


lookahead = Lookahead
