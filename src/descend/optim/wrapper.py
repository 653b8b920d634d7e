"""The base class of optimizers that wrap another one and use its steps.

A wrapper is a ``torch.optim.Optimizer`` that shares the parameter groups and the state of the wrapped optimizer, so that
schedules, saved states and hooks work as without it. Hooks before and after a step belong to the wrapped optimizer.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.errors import UserError
from descend.optim.base import catalogue_name
from descend.optim.lean import Step, lean_step
from descend.optim.vector_step import VectorStep

__all__ = ["Wrapper", "evaluation_weights", "has_evaluation_weights", "require_gradient_steps", "unwrapped"]


class Wrapper(Optimizer, ABC):
    """An optimizer that uses the steps of another one.

    What is not defined here or by a subclass, such as ``param_groups``, ``state`` and ``defaults``, is that of the wrapped
    optimizer.

    Args:
        optimizer: the wrapped optimizer.
        settings: settings of the wrapper, which become entries of its parameter groups, so that they are saved with them.

    Attributes:
        optimizer: the wrapped optimizer.
    """

    optimizer: Optimizer
    _inner: Step | None = None

    def __init__(self, optimizer: Optimizer, settings: Mapping[str, Any]) -> None:
        if not isinstance(optimizer, Optimizer):
            raise UserError(
                f"{catalogue_name(type(self))}: expected an optimizer, such as adamw(model.parameters()), got a "
                f"{type(optimizer).__name__}"
            )
        self._settings = dict(settings)
        for group in optimizer.param_groups:
            for name, value in settings.items():
                group.setdefault(name, value)
        # The hooks and the profiler of the base class; its groups and state are those of the wrapped optimizer.
        Optimizer.__setstate__(self, {"optimizer": optimizer})

    def __getattr__(self, name: str) -> Any:
        if name in ("optimizer", "_settings"):  # not there while a copy is made
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    @property
    def name(self) -> str:
        """The name of the wrapper in the catalogue."""
        return catalogue_name(type(self))

    def take_step(self, closure: Callable[[], Any] | None) -> Any:
        """Take a step of the wrapped optimizer, and return its loss.

        Where the closure leaves ``backward()`` to the optimizer, it is called here, and the gradients are discarded after the
        step, as by :meth:`descend.optim.base.CheckedOptimizer.evaluate`.
        """
        if closure is None:
            return cast(Callable[[], Any], self.optimizer.step)()
        if self._inner is None:
            self._inner = lean_step(self.optimizer)
        discard = False

        def evaluate() -> Any:
            nonlocal discard
            with torch.enable_grad():
                loss = closure()
                differentiable = isinstance(loss, Tensor) and loss.requires_grad
                if differentiable and all(p.grad is None for p in tensors_of(self)):
                    loss.backward()
                    discard = True
            return loss

        loss = self._inner(evaluate)
        if discard:
            self.zero_grad()
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a parameter group to the wrapped optimizer."""
        self.optimizer.add_param_group({**param_group, **self._settings})
        self._inner = None

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Register a hook before each step of the wrapped optimizer."""
        self._inner = None
        return self.optimizer.register_step_pre_hook(hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """Register a hook after each step of the wrapped optimizer."""
        self._inner = None
        return self.optimizer.register_step_post_hook(hook)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the wrapped optimizer and of the wrapper."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`."""
        self.optimizer.load_state_dict(dict(state_dict))
        self._inner = None

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs: the wrapped optimizer is copied with it."""
        return {"optimizer": self.optimizer, "_settings": self._settings}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        Optimizer.__setstate__(self, {})


def unwrapped(optimizer: Optimizer) -> Optimizer:
    """Return the innermost wrapped optimizer, or the optimizer itself.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> adam = torch.optim.Adam([w])
    >>> unwrapped(adam) is adam
    True
    """
    while isinstance(optimizer, Wrapper):
        optimizer = optimizer.optimizer
    return optimizer


def require_gradient_steps(optimizer: Optimizer, name: str, why: str) -> None:
    """Refuse an optimizer that uses more of the objective than its gradient.

    Raises:
        UserError: it does: a line search, a trust region, a second derivative, or an average of inner values.
    """
    inner = unwrapped(optimizer)
    if isinstance(inner, (VectorStep, torch.optim.LBFGS)) or hasattr(inner, "average"):
        other = getattr(inner, "name", type(inner).__name__)
        raise UserError(
            f"{name} cannot wrap {other}: {why}; use sgd, adamw or another optimizer of gradients"
        )


def has_evaluation_weights(optimizer: Optimizer) -> bool:
    """Return whether an optimizer keeps other weights for evaluation than those that the parameters hold."""
    return hasattr(optimizer, "evaluation_weights")


@contextmanager
def evaluation_weights(optimizer: Optimizer) -> Iterator[None]:
    """Context in which the parameters hold the weights that an optimizer keeps for evaluation; otherwise it has no effect.

    On exit the parameters are what they were, bit for bit.

    >>> w = torch.nn.Parameter(torch.ones(1))
    >>> with evaluation_weights(torch.optim.Adam([w])):
    ...     w.item()
    1.0
    """
    context: AbstractContextManager[None] = (
        optimizer.evaluation_weights() if has_evaluation_weights(optimizer) else nullcontext()  # type: ignore[attr-defined]  # it has
    )
    with context:
        yield


def tensors_of(optimizer: Optimizer) -> list[Tensor]:
    """Return all parameters of an optimizer, in order."""
    return [p for group in optimizer.param_groups for p in group["params"]]
