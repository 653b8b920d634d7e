"""Optimizers of other packages: how they use the closure of a step.

``optimizer.step(closure)`` of PyTorch's and of descend's optimizers evaluates the closure, which computes loss and gradient,
and returns the loss. Others take no closure, or ignore it and expect the gradients to be there, or return nothing. A step on
a copy shows which it is.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.errors import UserError, message_of
from descend.optim.base import CheckedOptimizer
from descend.rng import forked

__all__ = ["ClosureUse", "closure_use", "foreign_step", "is_foreign"]

ClosureUse = Literal["evaluates", "expects_gradients"]


def is_foreign(optimizer: Optimizer) -> bool:
    """Return whether an optimizer is neither PyTorch's nor descend's.

    >>> is_foreign(torch.optim.SGD([torch.zeros(1, requires_grad=True)]))
    False
    """
    package = type(optimizer).__module__.partition(".")[0]
    return package not in ("torch", "descend") and not isinstance(optimizer, CheckedOptimizer)


def closure_use(optimizer: Optimizer) -> ClosureUse:
    """Return whether ``optimizer.step`` evaluates its closure, from a step on a copy.

    Raises:
        UserError: a step fails, or the optimizer has no learning rate.
    """
    name = type(optimizer).__name__
    if any("lr" not in group for group in optimizer.param_groups):
        raise UserError(
            f"{name}: its parameter groups have no 'lr', the learning rate that schedules change; name the setting lr"
        )
    faults: list[str] = []
    for use in ("evaluates", "expects_gradients"):
        try:
            if _steps(_copy(optimizer), use):
                return use
        except Exception as cause:  # anyone's optimizer may raise anything
            faults.append(message_of(cause).splitlines()[0])
    takes_closure = "closure" in inspect.signature(optimizer.step).parameters
    raise UserError(f"{name}: a step fails: {faults[0 if takes_closure else -1]}")


def _copy(optimizer: Optimizer) -> Optimizer:
    """Return a copy with all attributes; ``copy.deepcopy`` keeps only those of :class:`torch.optim.Optimizer`."""
    copied = object.__new__(type(optimizer))
    copied.__dict__.update(copy.deepcopy(vars(optimizer)))
    return copied


def _steps(optimizer: Optimizer, use: ClosureUse) -> bool:
    """Take a step; return whether it used the closure, or without one, whether it succeeded."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    evaluations = 0

    def closure() -> Tensor:
        nonlocal evaluations
        evaluations += 1
        for p in parameters:
            p.grad = torch.full_like(p, 1e-3)
        return torch.ones((), device=parameters[0].device)

    with forked(parameters[0].device):
        if use == "evaluates":
            for p in parameters:
                p.grad = None
            optimizer.step(closure)  # type: ignore[arg-type]  # torch says float
            return evaluations > 0
        closure()
        optimizer.step()
    return True


def foreign_step(optimizer: Optimizer) -> Callable[[Callable[[], Tensor]], Tensor]:
    """Return a function that takes a step of any optimizer on a closure, and returns the loss before it.

    >>> class Plain(torch.optim.Optimizer):
    ...     def __init__(self, params): super().__init__(params, {"lr": 0.5})
    ...     @torch.no_grad()
    ...     def step(self):
    ...         for p in self.param_groups[0]["params"]: p -= 0.5 * p.grad
    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> def closure():
    ...     w.grad = torch.ones(1)
    ...     return w.detach().sum()
    >>> foreign_step(Plain([w]))(closure), w.data
    (tensor(1.), tensor([0.5000]))
    """
    use = closure_use(optimizer)
    plain = cast(Callable[..., object], optimizer.step)

    def step(closure: Callable[[], Tensor]) -> Tensor:
        if use == "expects_gradients":
            loss = closure()
            plain()
            return loss
        first: Tensor | None = None

        def recorded() -> Tensor:
            nonlocal first
            value = closure()
            first = value if first is None else first
            return value

        plain(recorded)
        if first is None:
            raise UserError(f"{type(optimizer).__name__}: a step did not evaluate its closure")
        return first

    return step
