"""Lion: steps along the sign of an interpolation between momentum and gradient.

With m the momentum, g the gradient at x, t the learning rate and λ the weight decay, elementwise:

    c ← β₁ m + (1 − β₁) g;   x ← (1 − t λ) x − t sign(c);   m ← β₂ m + (1 − β₂) g.

Every coordinate moves by t at each step, so t is usually a third to a tenth of Adam's, and λ three to ten times as large.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.optim.base import Params
from descend.optim.elementwise import ElementwiseStep, Moving
from descend.param_types import Fraction, NonNegative, Positive

__all__ = ["Lion", "lion"]


def lion_update(
    x: list[Tensor],
    momentum: list[Tensor],
    gradients: list[Tensor],
    lr: float,
    betas: tuple[float, float],
    weight_decay: float,
) -> None:
    """Take a step of Lion, in place."""
    directions = sign_or_nan(torch._foreach_lerp(momentum, gradients, 1 - betas[0]))
    if weight_decay:
        torch._foreach_mul_(x, 1 - lr * weight_decay)
    torch._foreach_add_(x, directions, alpha=-lr)
    torch._foreach_lerp_(momentum, gradients, 1 - betas[1])


def sign_or_nan(values: list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
    """Return the signs; NaN where a value is not finite.

    ``torch.sign`` of NaN is 0: weights whose momentum is NaN would stay where they are, and the loss would remain finite.
    """
    signs = list(torch._foreach_sign(values))
    torch._foreach_add_(signs, torch._foreach_sub(values, values))
    return signs


@method(
    row="K2",
    reference="Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu and Le 2023",
    formula="c <- b1 m + (1-b1) g; x <- (1 - t w) x - t sign(c); m <- b2 m + (1-b2) g",
    note="All coordinates move by t: use a learning rate that is a third to a tenth of Adam's. In a recipe, w is "
    "[regularize] weight_decay, which is decoupled; to keep t w, multiply Adam's by 3 to 10.",
)
@final
class Lion(ElementwiseStep):
    """Lion: moves each coordinate by the learning rate along the sign of momentum and gradient.

    The state is one number for each parameter, half of Adam's: ``exp_avg``, the momentum. A gradient that is not finite
    makes the parameter NaN, so that it is noticed.

    Args:
        params: parameters or groups.
        lr: t, the learning rate, which is the length of each coordinate's step. Default 0.0001.
        betas: β₁, the share of the momentum in the direction, and β₂, the share of the momentum that is kept. Default
            (0.9, 0.99).
        weight_decay: λ; x is multiplied by 1 − t λ. Default 0.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse.

    >>> w = torch.tensor([1.0, 1.0], requires_grad=True)
    >>> optimizer = Lion([w], lr=0.25)
    >>> (w * torch.tensor([3.0, -0.01])).sum().backward(); optimizer.step(); w.tolist()
    [0.75, 1.25]
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1e-4,
        betas: tuple[Fraction, Fraction] = (0.9, 0.99),
        weight_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, moving: Moving) -> None:
        """Move the parameters by :func:`lion_update`."""
        group = moving.group
        lion_update(
            moving.params,
            moving.tensors("exp_avg"),
            moving.gradients,
            moving.lr,
            group["betas"],
            group["weight_decay"],
        )


lion = Lion
