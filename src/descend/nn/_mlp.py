"""Fully connected networks: the multilayer perceptron and the linear model."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from torch import nn

from descend.cards import method
from descend.errors import UserError
from descend.nn import activations
from descend.nn.choice import Choice
from descend.nn.dropout import Dropout
from descend.nn.normalization import normalized
from descend.nn.residual import Residual
from descend.nn.scaling import ParametricActivation, Scaling
from descend.param_types import Count, Fraction

__all__ = ["linear", "mlp"]

Position = Literal["before", "after"]


@method(row="A4", reference="torch.nn.Linear", formula="y = W x + b")
def linear(inputs: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Build a linear model: linear regression, or logistic regression with a classification loss.

    Shapes: (n, *inputs) → (n, outputs).

    Args:
        inputs: the shape of one row.
        outputs: the number of raw outputs.

    >>> linear((3,), 2)
    Sequential(
      (output): Linear(in_features=3, out_features=2, bias=True)
    )
    """
    return mlp(inputs, outputs, hidden=())


@method(
    row="A4",
    reference="torch.nn.Linear",
    formula="h_k = D(f(N(W_k h_{k-1} + b_k))), y = W h + b; N after f with norm_position = 'after'",
    note="dropout is the probability to drop, as in PyTorch; some texts use the probability to keep.",
)
def mlp(
    inputs: tuple[int, ...],
    outputs: int,
    *,
    hidden: tuple[Count, ...] = (128, 128),
    activation: Choice = "relu",
    norm: Choice = "none",
    norm_position: Position = "before",
    dropout: Fraction = 0.0,
    residual: bool = False,
    scaling_layer: bool = False,
    parametric_activation: bool = False,
) -> nn.Sequential:
    """Build a multilayer perceptron: linear layers, each with a norm, an activation and dropout, and a linear output.

    The submodules are named ``linear1``, ``norm1``, ``act1``, ``drop1``, … and ``output``; inputs of more than
    one dimension are flattened first (``flatten``). With ``residual`` a hidden layer k that is as wide as the one
    before computes h_k = h_{k-1} + D(f(N(W_k h_{k-1} + b_k))), and its parts are in ``residualk.body``.
    Shapes: (n, *inputs) → (n, outputs), raw outputs.

    Args:
        inputs: the shape of one row.
        outputs: the number of raw outputs: 1 for binary, K for K classes, T for T regression targets.
        hidden: the widths of the hidden layers. Default (128, 128).
        activation: a name in ``ACTIVATIONS``, a table with ``name`` and settings, or a constructor. Default
            ``"relu"``. With ``maxout`` each hidden linear layer has k times its width as outputs.
        norm: a name in ``NORMS``, a table with ``name`` and settings, or a constructor. Default ``"none"``.
        norm_position: ``"before"`` or ``"after"`` the activation. Default ``"before"``.
        dropout: the probability to drop a hidden unit, after each activation. Default 0.
        residual: whether each hidden layer that is as wide as the hidden layer before has a skip connection
            (:class:`descend.nn.Residual`). Default False.
        scaling_layer: whether each input is first multiplied by a learned factor (:class:`descend.nn.Scaling`), in
            ``scale``. Default False.
        parametric_activation: whether each hidden unit mixes its activation with the identity by a learned share
            (:class:`descend.nn.ParametricActivation`). Default False.

    Raises:
        UserError: an activation or norm is unknown or unsuitable; ``residual`` is set, and no two consecutive hidden
            layers have the same width.

    >>> mlp((784,), 10, hidden=(512,), dropout=0.1)
    Sequential(
      (linear1): Linear(in_features=784, out_features=512, bias=True)
      (act1): ReLU()
      (drop1): Dropout(p=0.1, inplace=False)
      (output): Linear(in_features=512, out_features=10, bias=True)
    )
    """
    if residual and all(a != b for a, b in pairwise(hidden)):
        raise UserError(
            "model 'mlp': residual adds a hidden layer's inputs to its outputs, so two consecutive widths must be "
            f"equal; got hidden = {list(hidden)}; use for instance hidden = [128, 128], or residual = false"
        )
    model = nn.Sequential()
    if len(inputs) != 1:
        model.add_module("flatten", nn.Flatten())
    width = math.prod(inputs)
    if scaling_layer:
        model.add_module("scale", Scaling(width))
    for number, units in enumerate(hidden, start=1):
        act = activations.activation(activation)
        raw = units * outputs_per_unit(act)
        if parametric_activation:
            if raw != units:
                raise UserError(
                    "model 'mlp': parametric_activation mixes each unit with its activation, and maxout has several inputs for "
                    "each; use another activation, or parametric_activation = false"
                )
            act = ParametricActivation(act, units)
        layer, norm_layer = normalized(
            nn.Linear(width, raw), raw if norm_position == "before" else units, dims=1, norm=norm
        )
        skips = residual and number > 1 and units == width
        block = nn.Sequential() if skips else model
        block.add_module(f"linear{number}", layer)
        add_activation(block, number, act, norm_layer, norm_position)
        if dropout:
            block.add_module(f"drop{number}", Dropout(dropout))
        if skips:
            model.add_module(f"residual{number}", Residual(block))
        width = units
    model.add_module("output", nn.Linear(width, outputs))
    return model


def add_activation(
    model: nn.Sequential, number: int, act: nn.Module, norm: nn.Module | None, norm_position: Position
) -> None:
    """Add an activation to a model, and a norm, if any, before or after it."""
    pair = [(f"norm{number}", norm), (f"act{number}", act)]
    for name, module in pair if norm_position == "before" else reversed(pair):
        if module is not None:
            model.add_module(name, module)


def outputs_per_unit(act: nn.Module) -> int:
    """Return the number of raw outputs per unit: k for maxout, 1 for any other activation."""
    return act.k if isinstance(act, activations.Maxout) else 1


def single_activation(model: str, choice: Choice) -> nn.Module:
    """Return an activation for a model whose layers have one output per unit.

    Raises:
        UserError: the activation is unknown, or maxout.
    """
    act = activations.activation(choice)
    if outputs_per_unit(act) > 1:
        raise UserError(
            f"model '{model}': the activation 'maxout' needs several outputs of a layer for each unit; use another "
            "activation, or the model 'mlp'"
        )
    return act
