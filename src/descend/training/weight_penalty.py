"""Penalties on the weights: their values and gradients, whether autograd or the penalty itself computes the gradient.

A penalty is a function of no arguments that returns a scalar. Its gradient either follows from the scalar's graph, or
the penalty adds it to ``.grad`` itself and returns a scalar without a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from descend.errors import UserError

__all__ = ["penalty_and_gradients", "penalty_value", "penalty_with_graph"]

Penalty = Callable[[], Tensor]


def penalty_and_gradients(penalty: Penalty, parameters: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Return the value of a penalty and its gradient for each parameter; ``.grad`` is left unchanged.

    >>> w = torch.tensor([3.0], requires_grad=True)
    >>> penalty_and_gradients(lambda: (w * w).sum(), [w])
    (tensor(9.), [tensor([6.])])
    """
    with _preserved_gradients(parameters), torch.enable_grad():
        value = penalty()
        if value.requires_grad:
            value.backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters]
    return value.detach(), gradients


def penalty_value(penalty: Penalty, parameters: Sequence[Tensor]) -> Tensor:
    """Return the value of a penalty; a gradient that the penalty adds to ``.grad`` is discarded."""
    with _preserved_gradients(parameters):
        return penalty()


def penalty_with_graph(penalty: Penalty, parameters: Sequence[Tensor]) -> Tensor:
    """Return the value of a penalty with its graph.

    Raises:
        UserError: the penalty adds its own gradient, and so has no graph.
    """
    with _preserved_gradients(parameters):
        value = penalty()
        if any(p.grad is not None for p in parameters):
            raise UserError(
                "a penalty of this recipe adds its own gradient and has no second derivative; remove "
                "[regularize] orthogonality, or use a kind other than 'so' and 'dso'"
            )
        return value


@contextmanager
def _preserved_gradients(parameters: Sequence[Tensor]) -> Iterator[None]:
    """Context in which the parameters start without gradients; on exit their own gradients are restored."""
    own = [p.grad for p in parameters]
    try:
        for p in parameters:
            p.grad = None
        yield
    finally:
        for p, gradient in zip(parameters, own, strict=True):
            p.grad = gradient
