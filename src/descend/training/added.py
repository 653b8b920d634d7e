"""What is added to the loss of all rows together: penalties of the weights, with their gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from descend.errors import UserError

__all__ = ["graphed_penalty", "penalty_alone", "penalty_with_gradients"]

Penalty = Callable[[], Tensor]


def penalty_with_gradients(penalty: Penalty, parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The value and its derivative by each parameter, by its graph or as the penalty gives it; ``.grad`` is left as it is.

    >>> w = torch.tensor([3.0], requires_grad=True)
    >>> penalty_with_gradients(lambda: (w * w).sum(), [w])
    (tensor(9.), [tensor([6.])])
    """
    with _gradients_apart(parameters), torch.enable_grad():
        value = penalty()
        if value.requires_grad:
            value.backward()
        found = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    return value.detach(), found


def penalty_alone(penalty: Penalty, parameters: Sequence[Tensor]) -> Tensor:
    """The value; a gradient that the penalty adds is taken back."""
    with _gradients_apart(parameters):
        return penalty()


def graphed_penalty(penalty: Penalty, parameters: Sequence[Tensor]) -> Tensor:
    """The value with its graph.

    Raises:
        UserError: the penalty adds its own gradient, and so has no graph.
    """
    with _gradients_apart(parameters):
        value = penalty()
        if any(p.grad is not None for p in parameters):
            raise UserError(
                "a penalty of this recipe adds its own gradient and has no second derivative; without "
                "[regularize] orthogonality of the kinds so and dso there is one"
            )
        return value


@contextmanager
def _gradients_apart(parameters: Sequence[Tensor]) -> Iterator[None]:
    held = [p.grad for p in parameters]
    try:
        for p in parameters:
            p.grad = None
        yield
    finally:
        for p, gradient in zip(parameters, held, strict=True):
            p.grad = gradient
