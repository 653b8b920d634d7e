"""The rule of a layer: its forward pass and its vector-Jacobian product, for any layer by autograd."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Rule", "autograd_rule", "rule_of_any"]

Forward = Callable[[Tensor], tuple[Tensor, Any]]
Backward = Callable[[Tensor, Any, bool], tuple[Tensor | None, list[Tensor]]]


class Rule(NamedTuple):
    """The forward pass and the vector-Jacobian product of one layer.

    ``forward(x)`` returns the output and what the backward pass needs. ``backward(d, saved, needs_input_grad)`` takes
    the derivative d of the loss with respect to the output, and returns the derivative with respect to the input (if
    ``needs_input_grad``) and those with respect to the layer's parameters, in the order of ``layer.parameters()``.
    """

    forward: Forward
    backward: Backward


def autograd_rule(
    layer: nn.Module, arithmetic: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Rule:
    """Return a rule for any layer, which applies autograd to this layer only.

    Args:
        layer: any module.
        arithmetic: a context for its forward pass, such as autocast.
    """
    parameters = list(layer.parameters())

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        leaf = x.detach()
        if leaf.is_floating_point():
            leaf.requires_grad_()
        with torch.enable_grad(), arithmetic():
            y = layer(leaf)
        return y.detach(), (leaf, y)

    def backward(d: Tensor, saved: Any, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        leaf, y = saved
        inputs = [leaf] if needs_input_grad else []
        gradients = torch.autograd.grad(y, [*inputs, *parameters], d.to(y.dtype))
        return (gradients[0], list(gradients[1:])) if needs_input_grad else (None, list(gradients))

    return Rule(forward, backward)


def rule_of_any(layer: nn.Module) -> Rule:
    """Return a rule for any layer. One without parameters is differentiated only where its input needs a gradient."""
    rule = autograd_rule(layer)
    if next(layer.parameters(), None) is not None:
        return rule

    def backward(d: Tensor, x: Tensor, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        return rule.backward(d, rule.forward(x)[1], True) if needs_input_grad else (None, [])

    return Rule(lambda x: (layer(x), x), backward)
