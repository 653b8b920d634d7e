"""The rules of normalization layers in a chain."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from descend.training.layer_rules import Rule

__all__ = ["batch_norm_rule", "layer_norm_rule"]

aten = torch.ops.aten


def batch_norm_rule(layer: Any) -> Rule:
    """Return the rule of ``nn.BatchNorm1d`` and ``nn.BatchNorm2d`` in training mode."""
    weight, bias = layer.weight.detach(), layer.bias.detach()
    mean, variance, momentum, eps = layer.running_mean, layer.running_var, layer.momentum, layer.eps
    count = layer.num_batches_tracked
    derivative = aten.native_batch_norm_backward.default

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        count.add_(1)
        y, batch_mean, batch_invstd = torch.native_batch_norm(
            x, weight, bias, mean, variance, True, momentum, eps
        )
        return y, (x, batch_mean, batch_invstd)

    def backward(d: Tensor, saved: Any, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        x, batch_mean, batch_invstd = saved
        input_grad, weight_grad, bias_grad = derivative(
            d, x, weight, mean, variance, batch_mean, batch_invstd, True, eps, [True, True, True]
        )
        return input_grad, [weight_grad, bias_grad]

    return Rule(forward, backward)


def layer_norm_rule(layer: Any) -> Rule:
    """Return the rule of ``nn.LayerNorm``."""
    weight, bias, shape, eps = (
        layer.weight.detach(),
        layer.bias.detach(),
        list(layer.normalized_shape),
        layer.eps,
    )
    derivative = aten.native_layer_norm_backward.default

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        y, mean, invstd = torch.native_layer_norm(x, shape, weight, bias, eps)
        return y, (x, mean, invstd)

    def backward(d: Tensor, saved: Any, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        x, mean, invstd = saved
        input_grad, weight_grad, bias_grad = derivative(
            d, x, shape, mean, invstd, weight, bias, [True, True, True]
        )
        return input_grad, [weight_grad, bias_grad]

    return Rule(forward, backward)
