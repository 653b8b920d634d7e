"""Penalties of the weights' size, and the soft threshold that makes weights exactly zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.cards import method
from descend.errors import UserError

__all__ = ["l1_penalty", "l1_prox", "l2_penalty", "soft_threshold"]


@method(
    row="G1",
    reference="Hoerl and Kennard 1970",
    formula="sum_k ||W_k||_F^2, gradient 2 W_k",
    note="With factor w its gradient is 2 w W; PyTorch's weight_decay w adds w W.",
)
def l2_penalty(params: Iterable[Tensor]) -> Tensor:
    """Sum of squares of the weights, a scalar with gradient 2 W.

    Args:
        params: the weights; see :func:`decayed_parameters`.

    >>> l2_penalty([torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])])
    tensor(14.)
    """
    return _sum([weight.square().sum() for weight in params])


@method(
    row="G2",
    reference="Tibshirani 1996",
    formula="sum_k sum_ij |W_k,ij|, subgradient sign(W_k), 0 at 0",
    note="Gradient steps bring weights near zero but not onto it. The lecture's code sums all parameters, "
    "biases as well.",
)
def l1_penalty(params: Iterable[Tensor]) -> Tensor:
    """Sum of absolute values of the weights, a scalar with gradient sign(W).

    Args:
        params: the weights; see :func:`decayed_parameters`.

    >>> l1_penalty([torch.tensor([[1.0, -2.0]]), torch.tensor([3.0])])
    tensor(6.)
    """
    return _sum([weight.abs().sum() for weight in params])


def soft_threshold(weight: Tensor, threshold: float) -> Tensor:
    """sign(w) max(|w| - threshold, 0): the proximal map of threshold·|w|, exactly zero on a whole interval.

    >>> soft_threshold(torch.tensor([-3.0, -0.5, 0.0, 2.0]), 1.0)
    tensor([-2., -0.,  0.,  1.])
    """
    return torch.nn.functional.softshrink(weight, threshold)


@method(
    row="G2",
    reference="Tibshirani 1996; Daubechies, Defrise and De Mol 2004",
    formula="W <- sign(W) max(|W| - t w, 0) after each step, t the rate",
    note="Weights become exactly zero, where steps along the penalty's gradient bring them only near. With plain "
    "SGD it minimises loss + w sum |W|; an adaptive optimizer's direction is scaled and the threshold is not.",
)
def l1_prox(optimizer: Optimizer, params: Iterable[Tensor], strength: float) -> RemovableHandle:
    """Give an optimizer the proximal step of the l1 penalty: a soft threshold after each step.

    Step and threshold together are proximal gradient descent (ISTA) on loss + strength·Σ|W|, whose solutions
    have weights that are exactly zero. The threshold is t·strength with t the rate of the parameter's group at that
    step.

    Args:
        optimizer: any optimizer.
        params: the weights, among the optimizer's; see :func:`descend.regularization.decayed_parameters`.
        strength: w, 0 or more.

    Returns:
        A handle whose ``remove()`` takes the step away.

    Raises:
        UserError: ``strength`` is negative, or a parameter is not the optimizer's.

    >>> w = torch.nn.Parameter(torch.tensor([0.3, -2.0]))
    >>> optimizer = torch.optim.SGD([w], lr=0.5)
    >>> handle = l1_prox(optimizer, [w], 1.0)
    >>> w.grad = torch.zeros(2); optimizer.step(); w.data
    tensor([ 0.0000, -1.5000])
    """
    if not strength >= 0:
        raise UserError(f"l1_prox must be 0 or more; found {strength}")
    chosen = {id(p) for p in params}
    # Loading a state gives an optimizer new groups: they are looked up at each step, and only their members kept.
    groups = [[p for p in group["params"] if id(p) in chosen] for group in optimizer.param_groups]
    if sum(map(len, groups)) != len(chosen):
        raise UserError("l1_prox: some of the parameters are not among the optimizer's")

    @torch.no_grad()
    def shrink(stepped: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for group, members in zip(stepped.param_groups, groups, strict=True):
            for weight in members:
                weight.copy_(soft_threshold(weight, float(group["lr"]) * strength))

    return optimizer.register_step_post_hook(shrink)


def _sum(terms: list[Tensor]) -> Tensor:
    if not terms:
        raise UserError("a penalty needs at least one weight")
    return torch.stack(terms).sum()
