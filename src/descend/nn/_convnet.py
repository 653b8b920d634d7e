"""Convolutional network for images."""

from __future__ import annotations

from typing import Literal

from torch import nn

from descend.cards import method
from descend.errors import UserError
from descend.nn import activations
from descend.nn._mlp import Position, add_activation, outputs_per_unit
from descend.nn.choice import Choice
from descend.nn.dropout import Dropout
from descend.nn.normalization import normalized
from descend.param_types import Count, Fraction

__all__ = ["convnet"]

_MAX_FLATTENED = 4096
"""The largest number of features that head = "auto" flattens."""


@method(
    row="A4",
    reference="LeCun et al. 1998; torch.nn.Conv2d",
    formula="h_k = D(pool(f(N(W_k * h_{k-1} + b_k)))), then a dense head",
    note="Both dropout settings are the probability to drop, as in PyTorch; some texts use the probability to keep.",
)
def convnet(
    inputs: tuple[int, ...],
    outputs: int,
    *,
    channels: tuple[Count, ...] = (32, 64),
    kernel: Count = 3,
    activation: Choice = "relu",
    norm: Choice = "none",
    norm_position: Position = "before",
    channel_dropout: Fraction = 0.0,
    pool: Literal["max", "average"] = "max",
    head: Literal["auto", "flatten", "average"] = "auto",
    dense: tuple[Count, ...] = (128,),
    dropout: Fraction = 0.0,
) -> nn.Sequential:
    """Build a convolutional network: blocks of convolution, norm, activation and pooling, then a dense head.

    Convolutions keep the size of the image (padding kernel // 2 for odd kernels); pooling halves it as long as the
    shorter side is at least 4. The submodules are named ``conv1``, ``norm1``, ``act1``, ``pool1``, ``drop1``, …,
    ``flatten`` or ``average``, ``dense1``, … and ``output``.
    Shapes: (n, C, H, W) → (n, outputs), raw outputs.

    Args:
        inputs: (C, H, W), the shape of one image.
        outputs: the number of raw outputs.
        channels: the number of output channels of each block. Default (32, 64).
        kernel: the kernel size of the convolutions, an odd number. Default 3.
        activation: see :func:`descend.nn.mlp`. Default ``"relu"``.
        norm: see :func:`descend.nn.mlp`, for the blocks. Default ``"none"``.
        norm_position: ``"before"`` or ``"after"`` the activation. Default ``"before"``.
        channel_dropout: the probability to drop a whole channel, after each block. Default 0.
        pool: ``"max"`` or ``"average"`` over 2 × 2. Default ``"max"``.
        head: ``"flatten"`` keeps all positions, ``"average"`` averages each channel over the positions, ``"auto"``
            flattens up to 4096 features and averages more than that. Default ``"auto"``.
        dense: the widths of the hidden layers of the head. Default (128,).
        dropout: the probability to drop a unit of the head's hidden layers. Default 0.

    Raises:
        UserError: ``inputs`` is not (C, H, W), the kernel size is even, or an activation or norm is unknown or unsuitable.

    >>> [name for name, _ in convnet((1, 8, 8), 10, channels=(4,), dense=()).named_children()]
    ['conv1', 'act1', 'pool1', 'flatten', 'output']
    """
    if len(inputs) != 3:
        raise UserError(
            f"model 'convnet': expected images of shape (channels, height, width), got rows of shape {inputs}; "
            "choose 'mlp' or 'linear' for tables"
        )
    if kernel % 2 == 0:
        raise UserError(
            f"model 'convnet': expected an odd kernel size, got {kernel}; only odd kernels have a center"
        )
    depth, height, width = inputs
    model = nn.Sequential()
    for number, units in enumerate(channels, start=1):
        act = activations.activation(activation)
        raw = units * outputs_per_unit(act)
        layer, norm_layer = normalized(
            nn.Conv2d(depth, raw, kernel, padding=kernel // 2),
            raw if norm_position == "before" else units,
            dims=2,
            norm=norm,
        )
        model.add_module(f"conv{number}", layer)
        add_activation(model, number, act, norm_layer, norm_position)
        if min(height, width) >= 4:
            model.add_module(f"pool{number}", nn.MaxPool2d(2) if pool == "max" else nn.AvgPool2d(2))
            height, width = height // 2, width // 2
        if channel_dropout:
            model.add_module(f"drop{number}", nn.Dropout2d(channel_dropout))
        depth = units
    features = depth * height * width
    if head == "average" or (head == "auto" and features > _MAX_FLATTENED):
        model.add_module("average", nn.AdaptiveAvgPool2d(1))
        features = depth
    model.add_module("flatten", nn.Flatten())
    for number, units in enumerate(dense, start=1):
        act = activations.activation(activation)
        model.add_module(f"dense{number}", nn.Linear(features, units * outputs_per_unit(act)))
        model.add_module(f"dense_act{number}", act)
        if dropout:
            model.add_module(f"dense_drop{number}", Dropout(dropout))
        features = units
    model.add_module("output", nn.Linear(features, outputs))
    return model
