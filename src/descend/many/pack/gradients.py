"""Gradients of a stack, without autograd where the layers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.many.pack.kinds import ELEMENTWISE
from descend.many.pack.layers import (
    PackedActivations,
    PackedBranch,
    PackedDropout,
    PackedLinear,
    PackedMask,
    PackedSum,
)
from descend.many.pack.stacking import Stack
from descend.training.chain import RULES, Chain
from descend.training.layer_rules import Rule, autograd_rule, rule_of_any

__all__ = ["chain_of"]


def _linear(layer: PackedLinear, into: Sequence[Tensor], rows_last: bool) -> Rule:
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach().unsqueeze(2 if rows_last else 1)
    transposed = weight.transpose(1, 2)
    weight_gradient = into[0]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if rows_last:
            rows = x.transpose(1, 2)
            y = torch.bmm(weight, rows) if bias is None else torch.baddbmm(bias, weight, rows)
            return y.transpose(1, 2), x
        return torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias, x, transposed), x

    def backward(d: Tensor, x: Tensor, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        torch.bmm(d.transpose(1, 2), x, out=weight_gradient)
        if bias is not None:
            torch.sum(d, 1, out=into[1])
        return torch.bmm(d, weight) if wanted else None, list(into)

    return Rule(forward, backward)


def _multiply(factor: Callable[[], Tensor | None]) -> Rule:
    def forward(x: Tensor) -> tuple[Tensor, Any]:
        value = factor()
        return (x, None) if value is None else (x * value, value)

    def backward(d: Tensor, value: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        return d if value is None else d * value, []

    return Rule(forward, backward)


def _activations(layer: PackedActivations) -> Rule:
    rules = [RULES[type(kind)](kind) if type(kind) in RULES else autograd_rule(kind) for kind in layer.kinds]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        results = [rules[kind].forward(x.narrow(0, at, count)) for at, count, kind in layer.runs]
        return torch.cat([y for y, _ in results]), [saved for _, saved in results]

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        parts = [
            cast(Tensor, rules[kind].backward(d.narrow(0, at, count), own, True)[0])
            for (at, count, kind), own in zip(layer.runs, saved, strict=True)
        ]
        return torch.cat(parts), []

    return Rule(forward, backward)


def _branch(branch: PackedBranch) -> Rule:
    """Add the derivative that the sum has stored to that of the body."""

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        return d + cast(Tensor, branch.kept), []

    return Rule(lambda x: (branch(x), None), backward)


def _sum(layer: PackedSum) -> Rule:
    """Pass the derivative d on to the body, and store it at the branch: it is the derivative by both."""

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        layer.branch.kept = d
        return d, []

    return Rule(lambda x: (layer(x), None), backward)


def _relu_in_place(layer: nn.Module) -> Rule:
    """ReLU in place, for an input that nothing else reads: the memory is in the cache, and none is allocated."""
    return RULES[nn.ReLU](layer)._replace(forward=lambda x: (torch.relu_(x), x))


def _rule(layer: nn.Module, into: Sequence[Tensor], before: nn.Module | None, rows_last: bool) -> Rule:
    if isinstance(layer, PackedLinear):
        return _linear(layer, into, rows_last)
    if type(layer) is nn.ReLU and isinstance(before, PackedLinear):
        return _relu_in_place(layer)
    if isinstance(layer, PackedDropout):
        return _multiply(lambda: layer.noise)
    if isinstance(layer, PackedMask):
        return _multiply(lambda: layer.mask)
    if isinstance(layer, PackedActivations):
        return _activations(layer)
    if isinstance(layer, PackedBranch):
        return _branch(layer)
    if isinstance(layer, PackedSum):
        return _sum(layer)
    if type(layer) in ELEMENTWISE and type(layer) in RULES:
        return RULES[type(layer)](layer)
    return rule_of_any(layer)


def chain_of(
    stack: Stack,
    gradients: Sequence[Tensor],
    arithmetic: Callable[[], AbstractContextManager[object]] | None = None,
    *,
    rows_last: bool = False,
) -> Chain:
    """Return the layers of a stack as a chain that computes its own gradients.

    Args:
        stack: in training mode.
        gradients: buffers for the gradients of the parameters; linear layers write to them directly.
        arithmetic: context of the forward pass, e.g. autocast; with one, autograd differentiates the whole stack.
        rows_last: whether a linear layer at the end returns outputs (K, B, C) stored as (K, C, B).
    """
    if arithmetic is not None:
        return Chain([stack.network], [autograd_rule(stack.network, arithmetic)])
    place = 0
    rules = []
    layers = list(stack.network)
    for at, layer in enumerate(layers):
        count = len(list(layer.parameters()))
        before, last = layers[at - 1] if at else None, at == len(layers) - 1
        rules.append(_rule(layer, gradients[place : place + count], before, rows_last and last))
        place += count
    return Chain(layers, rules)
