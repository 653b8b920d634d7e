"""The base class of optimizers whose step is elementwise, or elementwise up to a few sums, and works on lists of tensors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from descend.errors import UserError
from descend.optim.base import CheckedOptimizer
from descend.optim.vector_step import restore_dtypes

__all__ = ["ElementwiseStep", "Moving"]


@dataclass(frozen=True, eq=False)
class Moving:
    """Parameters of one group that have gradients and share device, dtype and the numbers in their state.

    Args:
        group: parameter group of the optimizer, with the settings.
        params: the parameters.
        gradients: their gradients, dense.
        states: the optimizer's state of each parameter.
        step: the 1-based number of the current step of these parameters.
    """

    group: dict[str, Any]
    params: list[Tensor]
    gradients: list[Tensor]
    states: list[dict[str, Any]]
    step: int

    @property
    def lr(self) -> float:
        """The current learning rate of the group."""
        return float(self.group["lr"])

    def tensors(self, name: str, initial: Callable[[Tensor], Tensor] = torch.zeros_like) -> list[Tensor]:
        """Return the tensor of this name of each state; ``initial`` of the parameter creates it."""
        for state, p in zip(self.states, self.params, strict=True):
            if name not in state:
                state[name] = initial(p)
        return [state[name] for state in self.states]

    def number(self, name: str) -> float:
        """Return a number of the state, initially 0; it is equal for all of these parameters."""
        return float(self.states[0].get(name, 0.0))

    def set_numbers(self, **numbers: float) -> None:
        """Set numbers in the state of each parameter."""
        for state in self.states:
            state.update(numbers)


class ElementwiseStep(CheckedOptimizer, ABC):
    """An optimizer that moves lists of parameters; a subclass implements :meth:`advance`.

    The state of a parameter contains ``step``, the number of its steps, an integer.
    """

    supports_complex = False

    @abstractmethod
    def advance(self, moving: Moving) -> None:
        """Move these parameters by one step."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once, and its loss is returned.

        Raises:
            UserError: a gradient is sparse.
        """
        loss, discard = (None, False) if closure is None else self.evaluate(closure)
        self.advance_all(list(self._moving()))
        if discard:
            self.zero_grad()
        return loss

    def advance_all(self, parts: list[Moving]) -> None:
        """Move all parameters that have gradients."""
        for moving in parts:
            self.advance(moving)

    def _moving(self) -> Iterator[Moving]:
        for group in self.param_groups:
            parts: dict[tuple[Any, ...], list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                if p.grad.is_sparse:
                    raise UserError(
                        f"{self.name} moves every coordinate and does not support sparse gradients; use sparse_adam instead"
                    )
                numbers = tuple(
                    (name, value) for name, value in self.state[p].items() if not isinstance(value, Tensor)
                )
                parts.setdefault((p.device, p.dtype, numbers), []).append(p)
            for params in parts.values():
                states = [self.state[p] for p in params]
                step = int(states[0].get("step", 0)) + 1
                for state in states:
                    state["step"] = step
                yield Moving(group, params, [p.grad for p in params if p.grad is not None], states, step)

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state with the dtypes that it was saved with, where PyTorch would cast to the parameter's dtype."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)
