"""The l1 and l2 penalties on weights, and the proximal step that makes weights exactly zero."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.cards import method
from descend.errors import UserError
from descend.regularization.selection import selected_by_group
from descend.regularization.step_lengths import has_step_length, longest_step, step_length

__all__ = ["l1_penalty", "l1_prox", "l2_penalty", "soft_threshold"]


@method(
    row="G1",
    reference="Hoerl and Kennard 1970",
    formula="sum_k ||W_k||_F^2, gradient 2 W_k",
    note="With factor w its gradient is 2 w W; PyTorch's weight_decay w adds w W.",
)
def l2_penalty(params: Iterable[Tensor]) -> Tensor:
    """Return the sum of the squares of the weights, a scalar with gradient 2 W.

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
    note="Gradient steps bring weights near zero but do not make them exactly zero. Biases are not penalized.",
)
def l1_penalty(params: Iterable[Tensor]) -> Tensor:
    """Return the sum of the absolute values of the weights, a scalar with gradient sign(W).

    Args:
        params: the weights; see :func:`decayed_parameters`.

    >>> l1_penalty([torch.tensor([[1.0, -2.0]]), torch.tensor([3.0])])
    tensor(6.)
    """
    return _sum([weight.abs().sum() for weight in params])


def soft_threshold(weight: Tensor, threshold: float) -> Tensor:
    """Return sign(w) max(|w| - threshold, 0), the proximal map of threshold·|w|, which is zero on an interval.

    >>> soft_threshold(torch.tensor([-3.0, -0.5, 0.0, 2.0]), 1.0)
    tensor([-2., -0.,  0.,  1.])
    """
    return torch.nn.functional.softshrink(weight, threshold)


@method(
    row="G2",
    reference="Tibshirani 1996; Daubechies, Defrise and De Mol 2004",
    formula="W <- sign(W) max(|W| - t w, 0) after each step, t the length of a step per unit of the gradient",
    note="Weights become exactly zero, while steps along the gradient of the penalty only bring them near zero. It minimizes "
    "loss + w sum |W|. t is the learning rate for SGD, and for adaptive optimizers a number for each weight.",
)
def l1_prox(optimizer: Optimizer, params: Iterable[Tensor], strength: float) -> RemovableHandle:
    """Add the proximal step of the l1 penalty to an optimizer: a soft threshold after each step.

    With plain SGD this is proximal gradient descent (ISTA) on loss + strength·Σ|W|, whose solutions have weights that are
    exactly zero. The threshold is h·strength, where h is the length of a step at a constant gradient of 1: the learning
    rate for SGD, (1 − τ)/(1 − μ) times as much with momentum μ and dampening τ, and for adaptive methods such as Adam a
    number for each weight, the learning rate divided by the root of the average squared gradient. Then the fixed points
    are the minima of loss + strength·Σ|W|. The threshold of adaptive methods is at most the learning rate, as their
    steps are; at a fixed point this bound changes nothing. Where h is not known, as with line searches, curvature
    matrices and signs of gradients, the optimizer is refused.

    Args:
        optimizer: an optimizer whose step at a constant gradient is known
            (:func:`descend.regularization.step_lengths.has_step_length`).
        params: the weights, among the optimizer's; see :func:`descend.regularization.decayed_parameters`.
        strength: w, at least 0.

    Returns:
        A handle whose ``remove()`` removes the proximal step.

    Raises:
        UserError: ``strength`` is negative, a parameter is not one of the optimizer's, or a step of the optimizer is not a
            known multiple of the gradient.

    >>> w = torch.nn.Parameter(torch.tensor([0.3, -2.0]))
    >>> optimizer = torch.optim.SGD([w], lr=0.5)
    >>> handle = l1_prox(optimizer, [w], 1.0)
    >>> w.grad = torch.zeros(2); optimizer.step(); w.data
    tensor([ 0.0000, -1.5000])
    """
    if strength and not has_step_length(optimizer):
        name = getattr(optimizer, "name", type(optimizer).__name__.lower())
        declared = getattr(optimizer, "lr_is_step_size", None) is False
        why = (
            f"a step of {name} is not a known multiple of the gradient"
            if declared
            else f"that of a step of {name} is not known (lr_is_step_size = True declares that it is the learning rate)"
        )
        raise UserError(
            f"l1_prox: the threshold is the length of a step times l1_prox, but {why}, so that together they would "
            "minimize another function; use sgd, heavy_ball, nesterov, adam or adamw, or the penalty l1"
        )
    groups = selected_by_group(optimizer, params, strength, "l1_prox")

    @torch.no_grad()
    def shrink(stepped: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for group, members in zip(stepped.param_groups, groups, strict=True):
            for weight in members:
                threshold = step_length(stepped, group, weight) * strength
                if isinstance(threshold, Tensor):
                    # A weight whose gradient is 0, as before a layer of zeros, would otherwise be removed at once.
                    bounded = threshold.clamp_max(longest_step(group))
                    weight.copy_(weight.sign() * (weight.abs() - bounded).clamp_min(0.0))
                else:
                    weight.copy_(soft_threshold(weight, threshold))

    return optimizer.register_step_post_hook(shrink)


def _sum(terms: list[Tensor]) -> Tensor:
    if not terms:
        raise UserError("a penalty needs at least one weight")
    return torch.stack(terms).sum()
