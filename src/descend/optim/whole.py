"""Optimizers whose step moves all parameters together, as one vector."""

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
from descend.optim.building import catalogued
from descend.optim.evaluation import Evaluations, Need

__all__ = ["Position", "WholeStep", "exact_state"]


class Position:
    """The parameters as one vector: where a step starts, and where it tries to go.

    >>> w = torch.ones(2, requires_grad=True)
    >>> position = Position([w])
    >>> position.move(torch.tensor([1.0, 2.0]), 0.5)
    >>> w.tolist(), position.start.tolist()
    ([1.5, 2.0], [1.0, 1.0])
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = [p.detach() for p in parameters]
        self.start = flat(self.parameters)

    def move(self, step: Tensor, length: float | Tensor = 1.0) -> None:
        """Put the parameters at start + length · step."""
        self.put(self.start + length * step)

    def put(self, vector: Tensor) -> None:
        """Put the parameters at ``vector``, (n,)."""
        torch._foreach_copy_(self.parameters, views(vector, self.parameters))

    def back(self) -> None:
        """Put the parameters where they started, to the bit."""
        self.put(self.start)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Go back to the start if something fails within, an interruption by the user included."""
        try:
            yield
        except BaseException:
            self.back()
            raise


class WholeStep(Optimizer, ABC):
    """An optimizer that moves all parameters as one vector; a subclass says how in :meth:`advance`.

    What is remembered from step to step is :attr:`memory`, a dict of tensors and numbers that stands in the state of the
    first parameter. Settings other than the rate belong to the step as a whole: those of the first group count.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What it asks of the objective beside loss and gradient, with the settings that it has."""
        return frozenset()

    @property
    def name(self) -> str:
        """As in the catalogue."""
        return catalogued(type(self))

    @property
    def everything(self) -> list[Tensor]:
        """All parameters, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    @property
    def memory(self) -> dict[str, Any]:
        """What is remembered from step to step."""
        found: dict[str, Any] = self.state[self.everything[0]]
        return found

    @abstractmethod
    def advance(self, asked: Evaluations, position: Position) -> Any:
        """Move the parameters by one step, and return the loss where it started, as the closure gave it.

        Args:
            asked: what may be asked of the objective. Gradients are off, except in what it evaluates.
            position: the parameters; they are put back where they were if this fails.
        """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, and return the loss before it.

        Args:
            closure: see :mod:`descend.optim.evaluation`; it may be evaluated several times.

        Raises:
            UserError: there is no closure, or it does not give what the method needs.
        """
        if closure is None:
            raise UserError(
                f"{self.name} evaluates the loss itself, so its step needs a function that computes it: "
                "optimizer.step(closure); sgd and adam step without one"
            )
        parameters = self.everything
        position = Position(parameters)
        with position.kept():
            return self.advance(Evaluations(closure, parameters, self.name), position)

    def by_rate(self, step: Tensor) -> Tensor:
        """A step times the rates of the groups, (n,)."""
        rates = [group["lr"] for group in self.param_groups]
        if all(rate is rates[0] or rate == rates[0] for rate in rates):
            return torch.mul(step, rates[0])
        parts = views(step.clone(), self.everything)
        at = 0
        for group in self.param_groups:
            count = len(group["params"])
            torch._foreach_mul_(parts[at : at + count], group["lr"])
            at += count
        return flat(parts)

    def metric(self) -> tuple[Any, Tensor | None]:
        """The largest rate of the groups, and each entry's share of it as a change of variables: its root, (n,).

        With D the diagonal matrix of the shares, a method that works on F as a function of D^(−1/2) x sees the gradient
        D^(1/2) g, and its step d moves x by D^(1/2) d: downhill is downhill and pairs stay pairs. None where all rates are
        the same, or zero.
        """
        rates = [group["lr"] for group in self.param_groups]
        if all(rate is rates[0] or rate == rates[0] for rate in rates) or not max(rates) > 0:
            return rates[0], None
        shares = [
            torch.full_like(p, float(g["lr"] / max(rates))) for g in self.param_groups for p in g["params"]
        ]
        return max(rates), flat(shares).sqrt_()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load a state as it was saved: precision and integers are kept, where PyTorch would cast to the parameter's type."""
        super().load_state_dict(dict(state_dict))
        exact_state(self, state_dict)


def exact_state(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Give the tensors of a loaded state the types that they were saved with.

    PyTorch casts all tensors of a state to the type of their parameter: float64 and float32 factors of a bfloat16
    weight lose their digits, integers become floating-point numbers.
    """
    ids = [each for group in state_dict["param_groups"] for each in group["params"]]
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for each, parameter in zip(ids, parameters, strict=True):
        for key, value in state_dict["state"].get(each, {}).items():
            loaded = optimizer.state[parameter].get(key)
            if isinstance(value, Tensor) and isinstance(loaded, Tensor) and loaded.dtype != value.dtype:
                optimizer.state[parameter][key] = value.detach().to(loaded.device, copy=True)
