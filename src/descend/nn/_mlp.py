"""Fully connected networks: the multilayer perceptron, and the linear model as its smallest case."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from torch import nn

from descend.cards import method
from descend.errors import UserError
from descend.nn import activations
from descend.nn.choice import Choice
from descend.nn.normalization import normalized
from descend.nn.residual import Residual
from descend.param_types import Count, Fraction

__all__ = ["linear", "mlp"]

Position = Literal["before", "after"]


@method(row="A4", reference="torch.nn.Linear", formula="y = W x + b")
def linear(inputs: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Linear model: linear regression, or logistic regression with a classification loss.

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
    note="dropout is PyTorch's probability to drop; the lecture's code has p as the probability to keep.",
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
) -> nn.Sequential:
    """Multilayer perceptron: linear layers, each with a norm, an activation and dropout, and a linear output.

    The children are named ``linear1``, ``norm1``, ``act1``, ``drop1``, … and ``output``; inputs of more than
    one dimension are flattened first (``flatten``). With ``residual`` a hidden layer k as wide as the one before
    it is h_k = h_{k-1} + D(f(N(W_k h_{k-1} + b_k))), and its parts stand in ``residualk.body``.
    Shapes: (n, *inputs) → (n, outputs), raw outputs.

    Args:
        inputs: the shape of one row.
        outputs: the number of raw outputs: 1 for binary, K for K classes, T for T regression targets.
        hidden: the widths of the hidden layers. Default (128, 128).
        activation: a name in ``ACTIVATIONS``, a table with ``name`` and settings, or a constructor. Default
            ``"relu"``. With ``maxout`` each hidden linear layer has k times its width as outputs.
        norm: a name in ``NORMS``, a table with ``name`` and settings, or a constructor. Default ``"none"``.
        norm_position: ``"before"`` or ``"after"`` the activation. Default ``"before"``.
        dropout: the probability to DROP a hidden unit, behind each activation. Default 0.
        residual: a skip connection around each hidden layer as wide as the hidden layer before it
            (:class:`descend.nn.Residual`). Default False.

    Raises:
        UserError: an unknown name or setting, or a choice that does not fit; ``residual`` where no two neighbouring
            hidden layers have one width.

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
            "model 'mlp': residual adds a hidden layer's inputs to its outputs, so two neighbouring widths must be "
            f"equal; found hidden = {list(hidden)}; use for instance hidden = [128, 128], or residual = false"
        )
    model = nn.Sequential()
    if len(inputs) != 1:
        model.add_module("flatten", nn.Flatten())
    width = math.prod(inputs)
    for number, units in enumerate(hidden, start=1):
        act = activations.activation(activation)
        raw = units * outputs_per_unit(act)
        layer, normal = normalized(
            nn.Linear(width, raw), raw if norm_position == "before" else units, dims=1, norm=norm
        )
        skips = residual and number > 1 and units == width
        into = nn.Sequential() if skips else model
        into.add_module(f"linear{number}", layer)
        add_activation(into, number, act, normal, norm_position)
        if dropout:
            into.add_module(f"drop{number}", nn.Dropout(dropout))
        if skips:
            model.add_module(f"residual{number}", Residual(into))
        width = units
    model.add_module("output", nn.Linear(width, outputs))
    return model


def add_activation(
    model: nn.Sequential, number: int, act: nn.Module, normal: nn.Module | None, norm_position: Position
) -> None:
    """Add an activation and, before or after it, a norm if there is one."""
    pair = [(f"norm{number}", normal), (f"act{number}", act)]
    for name, module in pair if norm_position == "before" else reversed(pair):
        if module is not None:
            model.add_module(name, module)


def outputs_per_unit(act: nn.Module) -> int:
    """How many raw outputs a unit takes: k for maxout, 1 for any other activation."""
    return act.k if isinstance(act, activations.Maxout) else 1
