"""The base class of optimizers that move all parameters together, as one vector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.errors import UserError
from descend.linalg import flat, views
from descend.linalg.vectors import wide
from descend.optim.base import CheckedOptimizer
from descend.optim.evaluation import Evaluations, Need

__all__ = ["Position", "VectorStep", "restore_dtypes"]


class Position:
    """The parameters as one vector: the point where a step starts, and moves from there.

    The vector of parameters of half precision is in single precision, and so is the state that is derived from it.

    >>> w = torch.ones(2, requires_grad=True)
    >>> position = Position([w])
    >>> position.move(torch.tensor([1.0, 2.0]), 0.5)
    >>> w.tolist(), position.start.tolist()
    ([1.5, 2.0], [1.0, 1.0])
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = [p.detach() for p in parameters]
        self.start = wide(flat(self.parameters))

    def move(self, step: Tensor, length: float | Tensor = 1.0) -> None:
        """Set the parameters to start + length · step."""
        self.put(self.start + length * step)

    def move_if_finite(self, step: Tensor, length: float | Tensor = 1.0) -> None:
        """Set the parameters to start + length · step, or to the start if the step is not finite; do not wait for the device."""
        self.move(torch.where(torch.isfinite(step).all(), step, 0.0), length)

    def put(self, vector: Tensor) -> None:
        """Set the parameters to ``vector``, (n,)."""
        torch._foreach_copy_(self.parameters, views(vector, self.parameters))

    def back(self) -> None:
        """Set the parameters to their values at the start, bit for bit."""
        self.put(self.start)

    @contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """Restore the start if an exception is raised within, including a KeyboardInterrupt."""
        try:
            yield
        except BaseException:
            self.back()
            raise


class VectorStep(CheckedOptimizer, ABC):
    """An optimizer that moves all parameters as one vector; a subclass implements :meth:`advance`.

    The state that is kept between steps is :attr:`memory`, a dict of tensors and numbers; it is stored as the state of
    the first parameter. Settings other than the learning rate apply to the step as a whole, and those of the first
    parameter group are used.
    """

    supports_complex = False

    @property
    def needs(self) -> frozenset[Need]:
        """What the optimizer needs of the objective in addition to loss and gradient, with its current settings."""
        return frozenset()

    @property
    def all_parameters(self) -> list[Tensor]:
        """All parameters, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def memory(self) -> dict[str, Any]:
        """The state that is kept between steps."""
        memory: dict[str, Any] = self.state[self.all_parameters[0]]
        return memory

    @abstractmethod
    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Move the parameters by one step, and return the loss at its start, as the closure returned it.

        Args:
            objective: evaluates the closure. Gradients are disabled except during these evaluations.
            position: the parameters; they are restored if an exception is raised.
        """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, and return the loss before it.

        Args:
            closure: evaluates the loss, possibly several times; see :mod:`descend.optim.evaluation`.

        Raises:
            UserError: there is no closure, or it does not provide what the method needs.
        """
        if closure is None:
            raise UserError(
                f"{self.name} evaluates the loss several times in a step and needs a closure that computes it: "
                "optimizer.step(closure); sgd and adam step without one"
            )
        parameters = self.all_parameters
        position = Position(parameters)
        with position.restored_on_error():
            return self.advance(Evaluations(closure, parameters, self.name, self.param_groups[0]), position)

    def times_lr(self, step: Tensor) -> Tensor:
        """Return a step multiplied by the learning rates of the groups, (n,)."""
        rates = [group["lr"] for group in self.param_groups]
        if all(rate is rates[0] or rate == rates[0] for rate in rates):
            return torch.mul(step, rates[0])
        parts = views(step.clone(), self.all_parameters)
        at = 0
        for group in self.param_groups:
            count = len(group["params"])
            torch._foreach_mul_(parts[at : at + count], group["lr"])
            at += count
        return flat(parts)

    def metric(self) -> tuple[Any, Tensor | None]:
        """Return the largest learning rate, and the square root of each entry's share of it, (n,).

        The shares act as a change of variables. With D the diagonal matrix of the shares, a method that minimizes F as
        a function of D^(−1/2) x sees the gradient D^(1/2) g, and its step d moves x by D^(1/2) d. Descent directions
        remain descent directions, and curvature pairs remain pairs. The second value is None where all learning rates
        are equal, or zero.
        """
        rates = [group["lr"] for group in self.param_groups]
        if all(rate is rates[0] or rate == rates[0] for rate in rates) or not max(rates) > 0:
            return rates[0], None
        shares = [
            torch.full_like(p, float(g["lr"] / max(rates))) for g in self.param_groups for p in g["params"]
        ]
        return max(rates), wide(flat(shares)).sqrt_()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state with the dtypes that it was saved with, where PyTorch would cast to the parameter's dtype."""
        super().load_state_dict(dict(state_dict))
        restore_dtypes(self, state_dict)


def restore_dtypes(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Give the tensors of a loaded state the dtypes that they were saved with.

    PyTorch casts all tensors of a state to the dtype of their parameter: float64 and float32 factors of a bfloat16
    weight lose precision, and integers become floating-point numbers.
    """
    ids = [each for group in state_dict["param_groups"] for each in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for each, parameter in zip(ids, parameters, strict=True):
        for key, value in state_dict["state"].get(each, {}).items():
            loaded = optimizer.state[parameter].get(key)
            if isinstance(value, Tensor) and isinstance(loaded, Tensor) and loaded.dtype != value.dtype:
                optimizer.state[parameter][key] = value.detach().to(loaded.device, copy=True)
