"""TabM: a parameter-efficient ensemble of multilayer perceptrons."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

from descend.cards import method
from descend.nn._mlp import single_activation
from descend.nn.choice import Choice
from descend.nn.dropout import Dropout
from descend.nn.members import AdapterInit, BatchEnsembleLinear, MemberLinear, MemberMean, MemberScale
from descend.nn.outputs import Link
from descend.param_types import Count, Fraction

__all__ = ["tabm"]


@method(
    row="K9",
    reference="Gorishniy, Kotelnikov and Babenko 2025, TabM: advancing tabular deep learning with "
    "parameter-efficient ensembling; the package tabm",
    formula="h_j = D(f(s_j * W (r_j * h_j) + b_j)) for each layer and member j = 1 … k; z_j = V_j h_j + c_j; trained on "
    "1/k sum_j loss(y, z_j); prediction 1/k sum_j p(z_j)",
    note="The first adapter starts at random signs, all others at 1. Adapters are not decayed, unlike in the paper.",
)
def tabm(
    inputs: tuple[int, ...],
    outputs: int,
    *,
    link: Link = "identity",
    submodels: Count = 32,
    hidden: tuple[Count, ...] = (256, 256, 256),
    activation: Choice = "relu",
    dropout: Fraction = 0.1,
    adapters: Literal["all", "first"] = "all",
    adapter_init: AdapterInit = "signs",
) -> nn.Sequential:
    """Build TabM, an ensemble of k multilayer perceptrons that share their linear layers.

    Each hidden layer is a :class:`descend.nn.BatchEnsembleLinear`: members differ by scales of its inputs and outputs and
    by biases. Each member has its own linear output layer, and its own dropout masks.

    Each member is trained on its own loss: in training mode the network returns one row per row and member,
    (n k, outputs), to be compared with targets that are repeated by :func:`descend.nn.per_member`, as descend's
    training does. In evaluation mode it returns the raw outputs (n, outputs) of the mean prediction, so that validation,
    early stopping and exports are those of the ensemble.

    The submodules are named ``linear1``, ``act1``, ``drop1``, … as in :func:`mlp`, ``output`` and ``mean``; inputs of
    more than one dimension are flattened first (``flatten``). With ``adapters = "first"`` the scales are in ``adapter``,
    and the hidden layers are ordinary ones.
    Shapes: (n, *inputs) → (n k, outputs) in training mode, (n, outputs) in evaluation mode; raw outputs.

    Args:
        inputs: the shape of one row.
        outputs: the number of raw outputs: 1 for binary, K for K classes, T for T regression targets.
        link: the link of the output activation (:mod:`descend.nn.outputs`): ``"identity"`` for values, ``"logit"`` for
            classes, ``"logits"`` for labels. In a recipe it follows from ``output``. Default ``"identity"``.
        submodels: k. Default 32, as in the paper.
        hidden: the widths of the hidden layers. Default (256, 256, 256).
        activation: a name in ``ACTIVATIONS``, a table with ``name`` and settings, or a constructor. Default ``"relu"``.
        dropout: the probability to drop a hidden unit, after each activation. Default 0.1, as in the paper.
        adapters: ``"all"`` for adapters at all hidden layers; ``"first"`` for one adapter, at the inputs, before a network
            that all members share up to the output layers (TabM-mini in the paper). Default ``"all"``.
        adapter_init: the initial scales of the inputs: ``"signs"`` for ±1, ``"normal"`` for a standard normal
            distribution, which the paper uses after numerical embeddings, or ``"ones"``. Default ``"signs"``.

    Raises:
        UserError: an activation is unknown or unsuitable; it is ``maxout``, which has several inputs for each output.

    >>> model = tabm((4,), 3, submodels=2, hidden=(8,), link="logit")
    >>> model
    Sequential(
      (linear1): BatchEnsembleLinear(
        members=2
        (shared): Linear(in_features=4, out_features=8, bias=False)
      )
      (act1): ReLU()
      (drop1): Dropout(p=0.1, inplace=False)
      (output): MemberLinear(in_features=8, out_features=3, members=2)
      (mean): MemberMean(members=2, link=logit)
    )
    >>> import torch
    >>> model.train()(torch.zeros(5, 4)).shape, model.eval()(torch.zeros(5, 4)).shape
    (torch.Size([10, 3]), torch.Size([5, 3]))
    """
    model = nn.Sequential()
    if len(inputs) != 1:
        model.add_module("flatten", nn.Flatten())
    width = math.prod(inputs)
    if adapters == "first":
        model.add_module("adapter", MemberScale(width, submodels, adapter_init))
    for number, units in enumerate(hidden, start=1):
        if adapters == "first":
            model.add_module(f"linear{number}", nn.Linear(width, units))
        else:
            initial: AdapterInit = adapter_init if number == 1 else "ones"
            model.add_module(f"linear{number}", BatchEnsembleLinear(width, units, submodels, initial))
        model.add_module(f"act{number}", single_activation("tabm", activation))
        if dropout:
            model.add_module(f"drop{number}", Dropout(dropout))
        width = units
    model.add_module("output", MemberLinear(width, outputs, submodels))
    model.add_module("mean", MemberMean(submodels, link))
    return model
