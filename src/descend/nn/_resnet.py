"""Residual network for tables."""

from __future__ import annotations

import math

from torch import nn

from descend.cards import method
from descend.nn import activations
from descend.nn._mlp import single_activation
from descend.nn.choice import Choice
from descend.nn.dropout import Dropout
from descend.nn.normalization import normalized
from descend.nn.residual import Residual
from descend.param_types import Count, Fraction

__all__ = ["resnet"]


@method(
    row="K9",
    reference="Gorishniy et al. 2021, Revisiting deep learning models for tabular data",
    formula="h = W_0 x + b_0; h <- h + D'(W_2 D(f(W_1 N(h) + b_1)) + b_2) for each block; y = W f(N(h)) + b",
    note="Unlike mlp with residual, the norm comes first in a block, and the sum is not passed through an activation.",
)
def resnet(
    inputs: tuple[int, ...],
    outputs: int,
    *,
    width: Count = 192,
    inner_width: Count = 384,
    blocks: Count = 2,
    activation: Choice = "relu",
    norm: Choice = "batch",
    dropout: Fraction = 0.1,
    residual_dropout: Fraction = 0.0,
) -> nn.Sequential:
    """Build a residual network for tables, with a norm before each block.

    A linear layer maps a row to h of ``width`` numbers. Each block adds to h a network of one hidden layer, of
    ``inner_width`` units, applied to the normalized h. A norm, an activation and a linear layer follow.

    The submodules are named ``input``, ``block1``, …, ``norm``, ``act`` and ``output``; the body of a block, a
    :class:`descend.nn.Residual`, has ``norm``, ``linear1``, ``act``, ``drop1``, ``linear2`` and ``drop2``. Inputs of more
    than one dimension are flattened first (``flatten``).
    Shapes: (n, *inputs) → (n, outputs), raw outputs.

    Args:
        inputs: the shape of one row.
        outputs: the number of raw outputs: 1 for binary, K for K classes, T for T regression targets.
        width: the size of h. Default 192.
        inner_width: the number of hidden units of a block. Default 384.
        blocks: the number of blocks. Default 2.
        activation: a name in ``ACTIVATIONS``, a table with ``name`` and settings, or a constructor. Default ``"relu"``.
        norm: a name in ``NORMS``, a table with ``name`` and settings, or a constructor. Default ``"batch"``.
        dropout: the probability to drop a hidden unit of a block. Default 0.1.
        residual_dropout: the probability to drop an output of a block. Default 0.

    Raises:
        UserError: an activation or norm is unknown or unsuitable; the activation is ``maxout``, which has several inputs
            for each output.

    >>> list(dict(resnet((4,), 2, blocks=1).named_children()))
    ['input', 'block1', 'norm', 'act', 'output']
    """
    model = nn.Sequential()
    if len(inputs) != 1:
        model.add_module("flatten", nn.Flatten())
    last_act = single_activation("resnet", activation)
    model.add_module("input", nn.Linear(math.prod(inputs), width))
    for number in range(1, blocks + 1):
        layer, norm_layer = normalized(nn.Linear(width, inner_width), width, dims=1, norm=norm)
        body = nn.Sequential()
        if norm_layer is not None:
            body.add_module("norm", norm_layer)
        body.add_module("linear1", layer)
        body.add_module("act", activations.activation(activation))
        if dropout:
            body.add_module("drop1", Dropout(dropout))
        body.add_module("linear2", nn.Linear(inner_width, width))
        if residual_dropout:
            body.add_module("drop2", Dropout(residual_dropout))
        model.add_module(f"block{number}", Residual(body))
    output, norm_layer = normalized(nn.Linear(width, outputs), width, dims=1, norm=norm)
    if norm_layer is not None:
        model.add_module("norm", norm_layer)
    model.add_module("act", last_act)
    model.add_module("output", output)
    return model
