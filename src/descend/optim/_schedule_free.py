"""Schedule-free AdamW: the average of the iterates replaces a decay of the learning rate.

Three sequences start at the initial weights: z, the iterate of AdamW; x, a weighted average of z, which is evaluated; and y,
between the two, where the gradient g is computed. With the direction d = g / (√(v / (1 − β₂ᵏ)) + ε) + λ y, where v is Adam's
average of g², step k = 1, 2, ... is

    y = (1 − β₁) z + β₁ x;   z ← z − t d;   x ← (1 − c) x + c z,   c = w_k / (w_1 + … + w_k),   w_k = k^r · (largest t so far)^p.

The learning rate t is constant, apart from a warm-up. With p = 0 and r = 0, x is the mean of the iterates.

The parameters hold y during training, z is stored, and x = z + (y − z) / β₁ follows from them. The step in terms of y is

    y ← (1 − c) y + c z − t (1 − β₁ (1 − c)) d.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.optim.base import Params
from descend.optim.elementwise import ElementwiseStep, Moving
from descend.param_types import Fraction, Natural, NonNegative, Positive, Share

__all__ = ["ScheduleFreeAdamW", "schedule_free_adamw"]


def schedule_free_update(moving: Moving) -> None:
    """Take a step: v, the direction d, the weight c of the new iterate, and y and z."""
    group, k, y = moving.group, moving.step, moving.params
    beta1, beta2 = group["betas"]
    lr = moving.lr * min(1.0, k / group["warmup_steps"]) if group["warmup_steps"] else moving.lr
    share = share_of_iterate(moving, lr)
    z, squares = moving.tensors("z", torch.clone), moving.tensors("exp_avg_sq")
    torch._foreach_mul_(squares, beta2)
    torch._foreach_addcmul_(squares, moving.gradients, moving.gradients, 1 - beta2)
    roots = torch._foreach_div(squares, 1 - beta2**k)
    torch._foreach_sqrt_(roots)
    torch._foreach_add_(roots, group["eps"])
    directions = torch._foreach_div(moving.gradients, roots)
    if group["weight_decay"]:
        torch._foreach_add_(directions, y, alpha=group["weight_decay"])
    torch._foreach_lerp_(y, z, share)
    torch._foreach_add_(y, directions, alpha=-lr * (1 - beta1 * (1 - share)))
    torch._foreach_add_(z, directions, alpha=-lr)


def share_of_iterate(moving: Moving, lr: float) -> float:
    """Return c, the weight of the new iterate in the average, and count it in the state."""
    group = moving.group
    largest = max(lr, moving.number("lr_max"))
    weight = float(moving.step ** group["r"] * largest ** group["weight_lr_power"])
    total = moving.number("weight_sum") + weight
    moving.set_numbers(lr_max=largest, weight_sum=total)
    return weight / total if total else 0.0


@method(
    row="K3",
    reference="Defazio, Yang, Mehta, Mishchenko, Khaled and Cutkosky 2024",
    formula="y = (1-b1) z + b1 x; z <- z - t (g(y) / (sqrt(v/(1-b2^k)) + eps) + w y); x <- (1-c) x + c z, "
    "c = w_k / (w_1 + ... + w_k), w_k = k^r max(t)^p",
    note="Training is at y, and evaluation at x. A recipe validates, saves and exports x; in a loop of your own, evaluate "
    "inside `with optimizer.evaluation_weights():`. It needs no decaying schedule, and its learning rate is one to ten "
    "times AdamW's. As with other averages of weights, running statistics of batch normalization are those at y.",
)
@final
class ScheduleFreeAdamW(ElementwiseStep):
    """Schedule-free AdamW: evaluates the running average of its iterates, and needs no decay of the learning rate.

    Between steps the parameters hold y, the point of the next gradient; :meth:`evaluation_weights` is the context in which they
    hold the average x. The state is two numbers for each parameter, as Adam's: ``z``, the iterate, and ``exp_avg_sq``,
    the average of squared gradients; and for each tensor ``step``, ``lr_max``, the largest learning rate so far, and
    ``weight_sum``, the sum of the weights w_k.

    Args:
        params: parameters or groups.
        lr: t, the learning rate. Default 0.0025.
        betas: β₁, the share of the average in y, above 0, which takes the place of momentum; and β₂, the share of the average
            of g² that is kept. Default (0.9, 0.999).
        eps: ε, outside the root. Default 1e-8.
        weight_decay: λ, decoupled; it is applied at y. Default 0.
        warmup_steps: number of steps over which t grows linearly. Default 0: in a recipe this is schedule.warmup.
        r: power of k in the weights of the average. Default 0.
        weight_lr_power: p, power of the largest learning rate so far in the weights. Default 2, so that the steps of a
            warm-up count little.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = ScheduleFreeAdamW([w], lr=0.5, betas=(0.5, 0.999))
    >>> for _ in range(2):
    ...     optimizer.zero_grad(); w.sum().backward(); optimizer.step()  # z: 1, 0.5, 0
    >>> with optimizer.evaluation_weights():
    ...     round(w.item(), 4)  # the mean of 0.5 and 0
    0.25
    >>> round(w.item(), 4)  # y, halfway to z
    0.125
    """

    catalogue_name = "schedule_free_adamw"

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.0025,
        betas: tuple[Share, Fraction] = (0.9, 0.999),
        eps: NonNegative = 1e-8,
        weight_decay: NonNegative = 0.0,
        warmup_steps: Natural = 0,
        r: NonNegative = 0.0,
        weight_lr_power: NonNegative = 2.0,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, moving: Moving) -> None:
        """Move the parameters by :func:`schedule_free_update`."""
        schedule_free_update(moving)

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """Context in which the parameters hold the average x; on exit y is restored bit for bit. Do not step inside."""
        moved = [
            (p, p.detach().clone(), self.state[p]["z"], group["betas"][0])
            for group in self.param_groups
            for p in group["params"]
            if "z" in self.state[p]
        ]
        with torch.no_grad():
            for p, y, z, beta1 in moved:
                p.copy_(average_of(y, z, beta1))
        try:
            yield
        finally:
            with torch.no_grad():
                for p, y, _, _ in moved:
                    p.copy_(y)


def average_of(y: Tensor, z: Tensor, beta1: float) -> Tensor:
    """Return x = z + (y − z) / β₁."""
    return z + (y - z) / beta1


schedule_free_adamw = ScheduleFreeAdamW
