"""Decoupled weight decay, and the parameters it applies to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.cards import method
from descend.nn import (
    BatchEnsembleLinear,
    LinearEmbedding,
    MemberLinear,
    MemberScale,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
from descend.regularization.selection import selected_by_group

__all__ = ["DECAY_FACTOR", "decayed_parameters", "weight_decay"]

DECAY_FACTOR = "weight_decay_factor"
"""The key of a parameter group by which a schedule multiplies decoupled weight decay."""

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_STACKED = (
    LinearEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    BatchEnsembleLinear,
    MemberLinear,
    MemberScale,
)
_BIASES = ("bias", "phase", "scale_in", "scale_out")
"""Of the stacked modules, with one row for each number or member."""


def decayed_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the trainable parameters that are regularized, and those that are not.

    Parameters of two or more dimensions outside normalization layers are regularized: the weights of linear,
    convolutional, embedding and recurrent layers. Biases, those of embeddings of numbers too, the weights of
    normalization layers and the adapters of batch ensembles are not. In a layer with weight normalization, w = g v/‖v‖, the
    lengths g are regularized, since Σ g² = ‖W‖²_F, and v is not, since the function does not depend on its length. In other
    parametrized layers (orthogonal, binary, spectral normalization) nothing is regularized, since the norm of the trained
    tensor is not that of the weight. A parameter that occurs twice is listed once.

    >>> decay, rest = decayed_parameters(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    >>> [tuple(p.shape) for p in decay], [tuple(p.shape) for p in rest]
    ([(3, 2)], [(3,), (3,), (3,)])
    """
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    lengths = _lengths(model)
    seen: set[int] = set()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            if isinstance(module, parametrize.ParametrizationList):
                regularized = id(parameter) in lengths
            else:
                regularized = parameter.dim() >= 2 and not isinstance(module, _NORMS)
                regularized = regularized and not (isinstance(module, _STACKED) and name in _BIASES)
            (decay if regularized else rest).append(parameter)
    return decay, rest


def _lengths(model: nn.Module) -> set[int]:
    """Return the ids of the lengths g of all layers with weight normalization."""
    return {
        id(module.original0)
        for module in model.modules()
        if isinstance(module, parametrize.ParametrizationList) and hasattr(module, "original1")
    }


@method(
    row="G1",
    reference="Loshchilov and Hutter 2019; torch.optim.AdamW",
    formula="W <- (1 - t w) W before each step, t the learning rate",
    note="Decoupled from the gradient, as in AdamW. PyTorch's weight_decay of SGD and Adam adds w W to the "
    "gradient; the l2 penalty adds 2 w W.",
)
def weight_decay(optimizer: Optimizer, params: Iterable[Tensor], strength: float) -> RemovableHandle:
    """Add decoupled weight decay to an optimizer.

    Before each step the parameters are multiplied by 1 − t·strength, where t is the learning rate of their group at that
    step, so a learning-rate schedule also schedules the decay. The entry ``weight_decay_factor`` of a parameter group, if there
    is one, multiplies the strength. An optimizer with a closure evaluates it after the decay.

    Args:
        optimizer: any optimizer that has no decoupled decay of its own.
        params: the parameters to decay, among the optimizer's; see :func:`decayed_parameters`.
        strength: w, at least 0.

    Returns:
        A handle whose ``remove()`` removes the decay.

    Raises:
        UserError: ``strength`` is negative, or a parameter is not one of the optimizer's.

    >>> w = nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([w], lr=0.5)
    >>> handle = weight_decay(optimizer, [w], 0.2)
    >>> w.grad = torch.zeros(1); optimizer.step(); round(w.item(), 6)
    0.9
    """
    groups = selected_by_group(optimizer, params, strength, "weight_decay")

    @torch.no_grad()
    def decay(stepping: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for group, members in zip(stepping.param_groups, groups, strict=True):
            if members:
                factor = group.get(DECAY_FACTOR, 1.0)
                torch._foreach_mul_(members, 1.0 - float(group["lr"]) * strength * factor)

    return optimizer.register_step_pre_hook(decay)
