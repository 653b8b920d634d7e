"""The rules of dropout layers in a chain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from descend.training.layer_rules import Rule

__all__ = ["dropout_rule", "own_dropout_rule"]

aten = torch.ops.aten


def dropout_rule(layer: Any) -> Rule:
    """Return the rule of ``nn.Dropout``."""

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        p: float = layer.p  # a schedule may change it
        if p == 0.0:
            return x, None
        if x.is_cuda:
            y, mask = torch.native_dropout(x, p, True)
            return y, (mask, 1.0 / (1.0 - p))
        noise = torch.empty_like(x).bernoulli_(1.0 - p).div_(1.0 - p)
        return x * noise, noise

    def backward(d: Tensor, saved: Any, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        if saved is None:
            return d, []
        if isinstance(saved, tuple):
            return aten.native_dropout_backward.default(d, *saved), []
        return d * saved, []

    return Rule(forward, backward)


def own_dropout_rule(layer: Any, *, in_place: bool = False) -> Rule:
    """Return the rule of :class:`descend.nn.Dropout`.

    Args:
        layer: the layer.
        in_place: whether its input and the derivative of its output are read by nothing else, or only for their signs by
            a ReLU, whose derivative does not matter where the output is dropped.
    """
    of_torch = dropout_rule(layer)

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if x.device.type != "cpu":
            return of_torch.forward(x)
        noise = layer.noise(x)
        if noise is None:
            return x, None
        return x.mul_(noise) if in_place else x * noise, noise

    def backward(d: Tensor, saved: Any, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        if in_place and isinstance(saved, Tensor):
            return d.mul_(saved), []
        return of_torch.backward(d, saved, needs_input_grad)

    return Rule(forward, backward)
