"""Weight decay, and which parameters it is for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.cards import method
from descend.errors import UserError

__all__ = ["decayed_parameters", "weight_decay"]

_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def decayed_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The trainable parameters that are regularised, and those that are not.

    Regularised are the parameters of two or more dimensions outside norms: the weights of linear,
    convolutional, embedding and recurrent layers. Biases and the scales and shifts of norms are not. Of a
    weight-normed layer, w = g v/‖v‖, the lengths g are regularised, since Σ g² = ‖W‖²_F, and v is not, since
    its length means nothing. Of other parametrised layers (orthogonal, binary, spectrally normed) nothing is: the
    size of what is trained is not that of the weight. A parameter that occurs twice is listed once.

    >>> decay, rest = decayed_parameters(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    >>> [tuple(p.shape) for p in decay], [tuple(p.shape) for p in rest]
    ([(3, 2)], [(3,), (3,), (3,)])
    """
    decay: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    lengths = _lengths(model)
    seen: set[int] = set()
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            if id(parameter) in seen or not parameter.requires_grad:
                continue
            seen.add(id(parameter))
            if isinstance(module, parametrize.ParametrizationList):
                regularised = id(parameter) in lengths
            else:
                regularised = parameter.dim() >= 2 and not isinstance(module, _NORMS)
            (decay if regularised else rest).append(parameter)
    return decay, rest


def _lengths(model: nn.Module) -> set[int]:
    """The identities of all lengths g of weight-normed layers."""
    return {
        id(module.original0)
        for module in model.modules()
        if isinstance(module, parametrize.ParametrizationList) and hasattr(module, "original1")
    }


@method(
    row="G1",
    reference="Loshchilov and Hutter 2019; torch.optim.AdamW",
    formula="W <- (1 - t w) W before each step, t the rate",
    note="Decoupled from the gradient, as AdamW's. PyTorch's weight_decay of SGD and Adam adds w W to the "
    "gradient; the lecture's penalty adds 2 w W.",
)
def weight_decay(optimizer: Optimizer, params: Iterable[Tensor], strength: float) -> RemovableHandle:
    """Give an optimizer decoupled weight decay.

    Before each step the parameters are multiplied by 1 − t·strength, with t the rate of their group at that
    step, so a schedule of the rate schedules the decay. An optimizer that evaluates a closure does so behind
    this.

    Args:
        optimizer: any optimizer that has no decoupled decay of its own.
        params: the parameters to decay, among the optimizer's; see :func:`decayed_parameters`.
        strength: w, 0 or more.

    Returns:
        A handle whose ``remove()`` takes the decay away.

    Raises:
        UserError: ``strength`` is negative, or a parameter is not the optimizer's.

    >>> w = nn.Parameter(torch.ones(1))
    >>> optimizer = torch.optim.SGD([w], lr=0.5)
    >>> handle = weight_decay(optimizer, [w], 0.2)
    >>> w.grad = torch.zeros(1); optimizer.step(); round(w.item(), 6)
    0.9
    """
    if not strength >= 0:
        raise UserError(f"weight_decay must be 0 or more; found {strength}")
    chosen = {id(p) for p in params}
    # Loading a state gives an optimizer new groups: they are looked up at each step, and only their members kept.
    groups = [[p for p in group["params"] if id(p) in chosen] for group in optimizer.param_groups]
    if sum(map(len, groups)) != len(chosen):
        raise UserError("weight_decay: some of the parameters to decay are not among the optimizer's")

    @torch.no_grad()
    def decay(stepping: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for group, members in zip(stepping.param_groups, groups, strict=True):
            if members:
                torch._foreach_mul_(members, 1.0 - float(group["lr"]) * strength)

    return optimizer.register_step_pre_hook(decay)
