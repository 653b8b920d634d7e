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
    formula="W <- sign(W) max(|W| - t w, 0) after each step, t the learning rate",
    note="Weights become exactly zero, while steps along the gradient of the penalty only bring them near zero. With "
    "plain SGD it minimizes loss + w sum |W|; an adaptive optimizer scales its direction, but not the threshold.",
)
def l1_prox(optimizer: Optimizer, params: Iterable[Tensor], strength: float) -> RemovableHandle:
    """Add the proximal step of the l1 penalty to an optimizer: a soft threshold after each step.

    With plain SGD this is proximal gradient descent (ISTA) on loss + strength·Σ|W|, whose solutions have weights that
    are exactly zero. The threshold is t·strength, where t is the learning rate of the parameter's group at that step,
    and with PyTorch's SGD with momentum μ and dampening τ, whose steps at a constant gradient are (1 − τ)/(1 − μ)
    times as long, as many times larger. Where the length or the metric of a step is not that of the learning rate, as
    with line searches and curvature matrices, these steps and thresholds would minimize another function, and the
    optimizer is refused.

    Args:
        optimizer: an optimizer whose steps are as long as its learning rate specifies.
        params: the weights, among the optimizer's; see :func:`descend.regularization.decayed_parameters`.
        strength: w, at least 0.

    Returns:
        A handle whose ``remove()`` removes the proximal step.

    Raises:
        UserError: ``strength`` is negative, a parameter is not one of the optimizer's, or the optimizer determines its step
            by a line search or a curvature matrix.

    >>> w = torch.nn.Parameter(torch.tensor([0.3, -2.0]))
    >>> optimizer = torch.optim.SGD([w], lr=0.5)
    >>> handle = l1_prox(optimizer, [w], 1.0)
    >>> w.grad = torch.zeros(2); optimizer.step(); w.data
    tensor([ 0.0000, -1.5000])
    """
    if strength and not getattr(optimizer, "lr_is_step_size", True):
        name = getattr(optimizer, "name", type(optimizer).__name__.lower())
        raise UserError(
            f"l1_prox: the threshold of a step is lr * l1_prox, but a step of {name} is determined by a line search or a "
            "curvature matrix, so that together they minimize another function; use sgd, heavy_ball, nesterov or adam"
        )
    groups = selected_by_group(optimizer, params, strength, "l1_prox")

    @torch.no_grad()
    def shrink(stepped: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for group, members in zip(stepped.param_groups, groups, strict=True):
            threshold = float(group["lr"]) * strength * _steps_accumulated(stepped, group)
            for weight in members:
                weight.copy_(soft_threshold(weight, threshold))

    return optimizer.register_step_post_hook(shrink)


def _steps_accumulated(optimizer: Optimizer, group: dict[str, Any]) -> float:
    """Return the length of a step at a constant gradient, in units of the learning rate times the gradient.

    SGD's buffer does not see the threshold. At a fixed point it is (1 − τ)/(1 − μ) times the gradient g, and
    w = soft(w − t v, θ) requires |t v| ≤ θ at w = 0, which is |g| ≤ strength for θ = t·strength·(1 − τ)/(1 − μ).
    """
    if not isinstance(optimizer, torch.optim.SGD) or group["momentum"] >= 1:
        return 1.0
    return float(1.0 - group["dampening"]) / float(1.0 - group["momentum"])


def _sum(terms: list[Tensor]) -> Tensor:
    if not terms:
        raise UserError("a penalty needs at least one weight")
    return torch.stack(terms).sum()
