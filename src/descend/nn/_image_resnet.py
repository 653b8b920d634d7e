"""Residual convolutional network for images."""

from __future__ import annotations

import torch
from torch import nn

from descend.cards import method
from descend.errors import UserError
from descend.nn import activations
from descend.nn._mlp import single_activation
from descend.nn.choice import Choice
from descend.nn.normalization import normalized
from descend.nn.residual import Residual
from descend.param_types import Count, Fraction, Natural

__all__ = ["SMALLEST_HALVED", "SMALLEST_HALVED_FIRST", "image_resnet"]

SMALLEST_HALVED = 4
"""The smallest shorter side, in pixels, that is halved in front of a stage."""
SMALLEST_HALVED_FIRST = 16
"""The smallest shorter side, in pixels, that is halved directly after the first convolution."""


@method(
    row="A4",
    reference="He et al. 2016, Deep residual learning for image recognition; Lin, Chen and Yan 2014 (average head)",
    formula="h <- f(N(W * pool(h))) at the head of a stage; h <- f(h + N(W_2 * f(N(W_1 * h)))) for each block; y = W mean(h) + b",
    note="Stages halve the image by max pooling in front of a convolution, instead of a stride.",
)
def image_resnet(
    inputs: tuple[int, ...],
    outputs: int,
    *,
    channels: tuple[Count, ...] = (16, 32, 64),
    blocks: Natural = 1,
    reduce: Natural = 0,
    activation: Choice = "relu",
    norm: Choice = "batch",
    dropout: Fraction = 0.0,
) -> nn.Sequential:
    """Build a residual convolutional network for images.

    A convolution of 3 × 3 pixels, a norm and an activation give ``channels[0]`` channels. Each further stage halves
    the image by 2 × 2 max pooling as long as its shorter side is at least 4, changes the number of channels by a
    convolution, norm and activation, and adds ``blocks`` residual blocks: h ← f(h + body(h)), where the body consists of
    convolution, norm, activation, convolution and norm. The channels are averaged over the positions before the output
    layer, so that the number of weights does not depend on the size of the image.

    The submodules are named ``conv1``, ``norm1``, ``act1``, ``pool2``, ``conv2``, ``norm2``, ``act2``, ``block2_1``,
    ``block2_1_act``, …, ``average``, ``flatten``, ``drop`` and ``output``; the body of a block, a
    :class:`descend.nn.Residual`, has ``conv1``, ``norm1``, ``act``, ``conv2`` and ``norm2``.
    Shapes: (n, C, H, W) → (n, outputs), raw outputs.

    Args:
        inputs: (C, H, W), the shape of one image.
        outputs: the number of raw outputs.
        channels: the number of channels of each stage; the first stage has no blocks. Default (16, 32, 64).
        blocks: the number of residual blocks of each further stage. Default 1.
        reduce: the number of times that the image is halved by 2 × 2 average pooling before the first convolution
            (``reduce1``, …), for large images. Default 0.
        activation: a name in ``ACTIVATIONS``, a table with ``name`` and settings, or a constructor. Default ``"relu"``.
        norm: a name in ``NORMS``, a table with ``name`` and settings, or a constructor. Default ``"batch"``.
        dropout: the probability to drop an input of the output layer. Default 0.

    Raises:
        UserError: ``inputs`` is not (C, H, W); an activation or norm is unknown or unsuitable; the activation is
            ``maxout``, which has several inputs for each output.

    >>> [name for name, _ in image_resnet((1, 8, 8), 10, channels=(4, 8)).named_children()]
    ['conv1', 'norm1', 'act1', 'pool2', 'conv2', 'norm2', 'act2', 'block2_1', 'block2_1_act', 'average', 'flatten', 'output']
    """
    if len(inputs) != 3:
        raise UserError(
            f"model 'image_resnet': expected images of shape (channels, height, width), got rows of shape {inputs}; "
            "choose 'mlp', 'resnet' or 'linear' for tables"
        )
    single_activation("image_resnet", activation)
    depth, height, width = inputs
    model = nn.Sequential()
    for number in range(1, reduce + 1):
        if min(height, width) >= SMALLEST_HALVED:
            model.add_module(f"reduce{number}", nn.AvgPool2d(2))
            height, width = height // 2, width // 2
    for number, units in enumerate(channels, start=1):
        if number > 1 and min(height, width) >= SMALLEST_HALVED:
            model.add_module(f"pool{number}", nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        pooled = number == 1 and min(height, width) >= SMALLEST_HALVED_FIRST
        _add_layer(model, str(number), depth, units, norm, pooled=pooled)
        if pooled:
            height, width = height // 2, width // 2
        model.add_module(f"act{number}", activations.activation(activation))
        for block in range(1, blocks + 1 if number > 1 else 1):
            body = nn.Sequential()
            _add_layer(body, "1", units, units, norm)
            body.add_module("act", activations.activation(activation))
            _add_layer(body, "2", units, units, norm)
            model.add_module(f"block{number}_{block}", Residual(body))
            model.add_module(f"block{number}_{block}_act", activations.activation(activation))
        depth = units
    model.add_module("average", nn.AdaptiveAvgPool2d(1))
    model.add_module("flatten", nn.Flatten())
    if dropout:
        model.add_module("drop", nn.Dropout(dropout))
    model.add_module("output", nn.Linear(depth, outputs))
    return model


def _add_layer(
    model: nn.Sequential, name: str, depth: int, units: int, norm: Choice, pooled: bool = False
) -> None:
    """Add a convolution that keeps the size of the image, max pooling if requested, and the norm if there is one."""
    conv = nn.Conv2d(depth, units, 3, padding=1)
    # With weights in this order PyTorch computes all layers in it, which takes a fifth to a third less time on a CPU.
    conv.weight = nn.Parameter(conv.weight.detach().contiguous(memory_format=torch.channels_last))
    layer, norm_layer = normalized(conv, units, dims=2, norm=norm)
    model.add_module(f"conv{name}", layer)
    if pooled:
        model.add_module(f"pool{name}", nn.MaxPool2d(2))
    if norm_layer is not None:
        model.add_module(f"norm{name}", norm_layer)
