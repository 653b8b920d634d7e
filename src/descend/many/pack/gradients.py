"""Gradients of a pack of stacked modules, without a tape where layers are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.many.pack.layers import (
    PackedBranch,
    PackedDropout,
    PackedLinear,
    PackedMask,
    PackedMixed,
    PackedSum,
)
from descend.many.pack.stacking import ELEMENTWISE, Stack
from descend.training.chain import RULES, Chain, Rule, autograd_rule

__all__ = ["chain_of"]


def _linear(layer: PackedLinear, into: Sequence[Tensor], rows_last: bool) -> Rule:
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach().unsqueeze(2 if rows_last else 1)
    transposed = weight.transpose(1, 2)
    of_weight = into[0]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if rows_last:
            rows = x.transpose(1, 2)
            y = torch.bmm(weight, rows) if bias is None else torch.baddbmm(bias, weight, rows)
            return y.transpose(1, 2), x
        return torch.bmm(x, transposed) if bias is None else torch.baddbmm(bias, x, transposed), x

    def backward(d: Tensor, x: Tensor, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        torch.bmm(d.transpose(1, 2), x, out=of_weight)
        if bias is not None:
            torch.sum(d, 1, out=into[1])
        return torch.bmm(d, weight) if wanted else None, list(into)

    return Rule(forward, backward)


def _times(factor: Callable[[], Tensor | None]) -> Rule:
    def forward(x: Tensor) -> tuple[Tensor, Any]:
        own = factor()
        return (x, None) if own is None else (x * own, own)

    def backward(d: Tensor, own: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        return d if own is None else d * own, []

    return Rule(forward, backward)


def _mixed(layer: PackedMixed) -> Rule:
    rules = [RULES[type(kind)](kind) if type(kind) in RULES else autograd_rule(kind) for kind in layer.kinds]

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        done = [rules[kind].forward(x.narrow(0, at, count)) for at, count, kind in layer.runs]
        return torch.cat([y for y, _ in done]), [saved for _, saved in done]

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        parts = [
            cast(Tensor, rules[kind].backward(d.narrow(0, at, count), own, True)[0])
            for (at, count, kind), own in zip(layer.runs, saved, strict=True)
        ]
        return torch.cat(parts), []

    return Rule(forward, backward)


def _branch(branch: PackedBranch) -> Rule:
    """The derivative that the sum has left is added to that of the body."""

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        return d + cast(Tensor, branch.kept), []

    return Rule(lambda x: (branch(x), None), backward)


def _sum(layer: PackedSum) -> Rule:
    """The derivative d is that of the body's outputs and of the branch: it goes on, and waits at the branch."""

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        layer.branch.kept = d
        return d, []

    return Rule(lambda x: (layer(x), None), backward)


def _relu_in_place(layer: nn.Module) -> Rule:
    """Of what nobody else reads: the memory that is written is warm, and none is asked for."""
    return RULES[nn.ReLU](layer)._replace(forward=lambda x: (torch.relu_(x), x))


def _rule(layer: nn.Module, into: Sequence[Tensor], before: nn.Module | None, rows_last: bool) -> Rule:
    if isinstance(layer, PackedLinear):
        return _linear(layer, into, rows_last)
    if type(layer) is nn.ReLU and isinstance(before, PackedLinear):
        return _relu_in_place(layer)
    if isinstance(layer, PackedDropout):
        return _times(lambda: layer.noise)
    if isinstance(layer, PackedMask):
        return _times(lambda: layer.mask)
    if isinstance(layer, PackedMixed):
        return _mixed(layer)
    if isinstance(layer, PackedBranch):
        return _branch(layer)
    if isinstance(layer, PackedSum):
        return _sum(layer)
    if type(layer) in ELEMENTWISE and type(layer) in RULES:
        return RULES[type(layer)](layer)
    return autograd_rule(layer)


def chain_of(
    stack: Stack,
    gradients: Sequence[Tensor],
    arithmetic: Callable[[], AbstractContextManager[object]] | None = None,
    *,
    rows_last: bool = False,
) -> Chain:
    """The stack's layers as a chain that differentiates itself.

    Args:
        stack: in training mode.
        gradients: where those by the parameters shall end up; linear layers write theirs there directly.
        arithmetic: autocast, say; then all layers run on one tape.
        rows_last: the outputs (K, B, C) of a linear layer at the end lie in memory as (K, C, B).
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
