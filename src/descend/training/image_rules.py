"""The rules of the layers of convolutional networks in a chain, on a CPU.

Images are stored with channels last (NHWC), the order in which convolutions and pooling are vectorized over channels;
shapes stay (n, C, H, W). Large intermediate results are written to the same memory at every step: for memory that
is allocated at every step the operating system clears its pages at every step, which takes as long as the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from descend.training.channels_last import channels_last
from descend.training.layer_rules import Rule, autograd_rule
from descend.training.normalization_rules import batch_norm_rule

__all__ = ["IMAGE_RULES", "exchanged", "is_image_chain", "is_supported", "relu_in_place"]

aten = torch.ops.aten


class _Memory:
    """Memory of a result in channels-last order, which is kept from step to step and shared by batches of any size."""

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        self._dtype, self._kept = dtype, torch.empty(0)

    def of(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Return uninitialized memory for a result of shape (n, C, H, W) with the data type of ``like``."""
        dtype = self._dtype or like.dtype
        kept = self._kept
        if kept.dtype != dtype or kept.shape[1:] != shape[1:] or len(kept) < shape[0]:
            kept = torch.empty(tuple(shape), dtype=dtype, memory_format=torch.channels_last)
            self._kept = kept
        return kept[: shape[0]]


def _convolution(layer: Any) -> Rule:
    weight = layer.weight.detach()
    bias = None if layer.bias is None else layer.bias.detach()
    stride, padding, dilation, groups = layer.stride, layer.padding, layer.dilation, layer.groups
    # The layer's own weight keeps its order in memory, which saved files show.
    ordered = torch.empty_like(weight, memory_format=torch.channels_last)
    weight_grad = torch.empty_like(weight)
    bias_sizes = None if bias is None else list(bias.shape)
    derivative = aten.convolution_backward.default

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        x = channels_last(x)
        ordered.copy_(weight)
        return torch.conv2d(x, ordered, bias, stride, padding, dilation, groups), x

    def backward(d: Tensor, x: Tensor, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        mask = [needs_input_grad, True, bias is not None]
        input_grad, own, bias_grad = derivative(
            channels_last(d),
            x,
            ordered,
            bias_sizes,
            stride,
            padding,
            dilation,
            False,
            [0, 0],
            groups,
            mask,
        )
        weight_grad.copy_(own)
        return input_grad, [weight_grad] if bias is None else [weight_grad, bias_grad]

    return Rule(forward, backward)


def _max_pool(layer: Any) -> Rule:
    kernel, stride, padding, dilation, ceil = (
        _pair(layer.kernel_size),
        _pair(layer.stride),
        _pair(layer.padding),
        _pair(layer.dilation),
        layer.ceil_mode,
    )
    shapes: dict[torch.Size, torch.Size] = {}
    outputs, indices, gradients = _Memory(), _Memory(torch.int64), _Memory()

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        x = channels_last(x)
        if x.shape[1:] not in shapes:
            single = torch.nn.functional.max_pool2d(x[:1], kernel, stride, padding, dilation, ceil)
            shapes[x.shape[1:]] = single.shape[1:]
        shape = (len(x), *shapes[x.shape[1:]])
        out, at = outputs.of(shape, x), indices.of(shape, x)
        torch.ops.aten.max_pool2d_with_indices.out(
            x, kernel, stride, padding, dilation, ceil, out=out, indices=at
        )
        return out, (x, at)

    def backward(d: Tensor, saved: Any, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        x, at = saved
        result = gradients.of(x.shape, x)
        aten.max_pool2d_with_indices_backward.grad_input(
            channels_last(d), x, kernel, stride, padding, dilation, ceil, at, grad_input=result
        )
        return result, []

    return Rule(forward, backward)


def _average_pool(layer: Any) -> Rule:
    kernel, stride, padding = _pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding)
    rest = (layer.ceil_mode, layer.count_include_pad, layer.divisor_override)
    derivative = aten.avg_pool2d_backward.default

    def backward(d: Tensor, x: Tensor, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        return derivative(channels_last(d), x, kernel, stride, padding, *rest), []

    return Rule(lambda x: (layer(x), x), backward)


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


IMAGE_RULES: Mapping[type[nn.Module], Callable[[Any], Rule]] = {
    nn.Conv2d: _convolution,
    nn.BatchNorm2d: batch_norm_rule,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: lambda layer: autograd_rule(layer),
    nn.Dropout2d: lambda layer: autograd_rule(layer),
}
"""The rule of each layer for images, as a function of the layer."""


def is_supported(layer: nn.Module) -> bool:
    """Whether the rule of a layer for images describes it."""
    if any(tensor.device.type != "cpu" for tensor in layer.parameters()):
        return False
    if isinstance(layer, nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    if isinstance(layer, nn.BatchNorm2d):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.MaxPool2d):
        return not layer.return_indices
    return not (isinstance(layer, nn.Dropout2d) and layer.inplace)


def is_image_chain(layers: Sequence[nn.Module]) -> bool:
    """Whether layers may run in channels-last order; True for layers without convolutions.

    ``nn.Dropout`` assigns its random numbers in the order of memory. For images it would sample other masks in a chain
    than by autograd, although both are used within a step of some optimizers.
    """
    if not any(type(layer) in IMAGE_RULES for layer in layers):
        return True
    if not any(type(layer) is nn.Conv2d for layer in layers):
        return False
    flat = next((at for at, layer in enumerate(layers) if type(layer) is nn.Flatten), len(layers))
    return not any(type(layer) is nn.Dropout for layer in layers[:flat])


def exchanged(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Return layers with max pooling before ReLU where it followed it.

    Both are monotone, so that max(relu(x)) = relu(max(x)) to the bit, and the gradients differ at most in the sign of zero.
    ReLU then computes on a quarter of the values with 2 × 2 pooling.

    >>> [type(layer).__name__ for layer in exchanged([nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()])]
    ['MaxPool2d', 'ReLU', 'Flatten']
    """
    result = list(layers)
    for at in range(1, len(result)):
        if type(result[at]) is nn.MaxPool2d and type(result[at - 1]) is nn.ReLU:
            result[at - 1], result[at] = result[at], result[at - 1]
    return result


def relu_in_place() -> Rule:
    """Return the rule of ReLU that overwrites its input and the derivative of its output, which nothing else reads."""

    def backward(d: Tensor, y: Tensor, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        if d.stride() != y.stride():
            return aten.threshold_backward.default(d, y, 0), []
        return aten.threshold_backward.grad_input(d, y, 0, grad_input=d), []

    return Rule(lambda x: (torch.relu_(x), x), backward)
