"""Momentum with the learning rate inside: the heavy ball, and Nesterov's method with the gradient at the look-ahead point.

With x the iterate, x⁻ the previous one (x⁻ = x at the first step), α the learning rate and β the momentum

=========== ====================================================================
heavy ball  x⁺ = x + β (x − x⁻) − α ∇f(x)
Nesterov    x_ahead = x + β (x − x⁻);  x⁺ = x_ahead − α ∇f(x_ahead)
=========== ====================================================================

The state is the previous iterate, so that the momentum term is the last step at the length it was taken. PyTorch's SGD
accumulates gradients and multiplies the sum by the current learning rate. The two agree while the learning rate is
constant; when it falls, the heavy ball keeps its velocity. PyTorch's ``nesterov=True`` stores the look-ahead points
instead of the iterates, so that the gradient can be evaluated at the parameters.

On a quadratic with curvatures in [m, L], κ = L/m, gradient descent contracts at best by (κ − 1)/(κ + 1) per step, and the
heavy ball with α = 4/(√L + √m)² and β = ((√κ − 1)/(√κ + 1))² by (√κ − 1)/(√κ + 1) (Polyak 1964). Nesterov's method
with α = 1/L and β = (√κ − 1)/(√κ + 1) reduces every strongly convex f by 1 − 1/√κ per step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import CheckedOptimizer, Params
from descend.param_types import Fraction, NonNegative, Positive

__all__ = ["HeavyBall", "Nesterov", "heavy_ball", "nesterov"]


@method(
    row="D4",
    reference="Polyak 1964",
    formula="x+ = x - a g + b (x - x-)",
    note="The learning rate is inside. PyTorch's SGD keeps it outside of its buffer: the two agree while the learning "
    "rate is constant, and differ as soon as a schedule changes it.",
)
@final
class HeavyBall(CheckedOptimizer):
    """Polyak's heavy-ball method: a gradient step plus a share of the previous step.

    Along a valley the steps add up to a velocity of α/(1 − β) gradients; across it they cancel.

    The state of a parameter is ``previous``, its x⁻. Parameters without a gradient do not move.

    Args:
        params: parameters or groups.
        lr: α, the learning rate. Default 0.01; the rule of a recipe for regression on few rows is finer
            (docs/defaults.md).
        momentum: β, the share of the previous step that is taken again, after Sutskever et al. 2013. Default 0.9.
        weight_decay: λ; λ x is added to the gradient, as in torch.optim.SGD. Default 0.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = HeavyBall([w], lr=0.5, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad(); w.sum().backward(); optimizer.step()
    >>> w.item()  # 1 - 0.5, then - 0.5 - 0.5 * 0.5
    -0.25
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.01,
        momentum: Fraction = 0.9,
        *,
        weight_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, and return the loss of ``closure``, which is evaluated once, at x."""
        loss, discard = (None, False) if closure is None else self.evaluate(closure)
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                previous = [_previous(self.state[p], p) for p in moving]
                gradients = _gradients(moving, group["weight_decay"])
                heavy_ball_update(moving, previous, gradients, float(group["lr"]), group["momentum"])
        if discard:
            self.zero_grad()
        return loss


def heavy_ball_update(
    x: list[Tensor], previous: list[Tensor], gradients: list[Tensor], lr: float, momentum: float
) -> None:
    """Set x⁻ ← x and x ← x + β (x − x⁻) − α g, in place."""
    step = torch._foreach_sub(x, previous)
    torch._foreach_copy_(previous, x)
    torch._foreach_add_(x, step, alpha=momentum)
    torch._foreach_add_(x, gradients, alpha=-lr)


@method(
    row="D5",
    reference="Nesterov 1983; Sutskever et al. 2013",
    formula="x_ahead = x + b (x - x-); x+ = x_ahead - a grad f(x_ahead)",
    note="The closure is evaluated at the look-ahead point, and between steps the parameters are the iterates x. "
    "PyTorch's SGD with nesterov=True stores the look-ahead points instead, and takes the same steps while the learning "
    "rate is constant.",
)
@final
class Nesterov(CheckedOptimizer):
    """Nesterov's accelerated gradient method: the momentum step first, then the gradient at the point it leads to.

    A step costs one gradient, as with the heavy ball. The loss that a step returns is that of the look-ahead point.

    The state of a parameter is ``previous``, its x⁻. Between steps the parameters hold x.

    Args:
        params: parameters or groups.
        lr: α, the learning rate. Default 0.01; the rule of a recipe for regression on few rows is finer
            (docs/defaults.md).
        momentum: β, the share of the previous step that is taken again, after Sutskever et al. 2013. Default 0.9.
        weight_decay: λ; λ x_ahead is added to the gradient, as in torch.optim.SGD. Default 0.

    Raises:
        UserError: a setting is outside its domain; a gradient is sparse; ``step`` is called without a closure.

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = Nesterov([w], lr=0.5, momentum=0.5)
    >>> def closure():
    ...     optimizer.zero_grad(); loss = (w * w / 2).sum(); loss.backward(); return loss
    >>> for _ in range(2):
    ...     _ = optimizer.step(closure)
    >>> w.item()  # 1 -> 0.5; ahead 0.25 -> 0.125
    0.125
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.01,
        momentum: Fraction = 0.9,
        *,
        weight_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, and return the loss of ``closure``, which is evaluated once, at the look-ahead point.

        Raises:
            UserError: there is no closure: the gradient at x is not the one that the method needs.
        """
        if closure is None:
            raise UserError(
                "nesterov evaluates the gradient at the look-ahead point and needs a closure that computes it: "
                "optimizer.step(closure); sgd with nesterov=True steps without one"
            )
        started = [
            (p, group["momentum"])
            for group in self.param_groups
            for p in group["params"]
            if self.state[p]  # at the first step x⁻ = x, and the look-ahead point is x itself
        ]
        starts = {p: p.clone() for p, _ in started}
        for p, momentum in started:
            p.add_(p - self.state[p]["previous"], alpha=momentum)  # x_ahead = x + β (x − x⁻)
        try:
            loss, discard = self.evaluate(closure)
        except BaseException:  # also a KeyboardInterrupt: the parameters are x again in any case
            for p, start in starts.items():
                p.copy_(start)
            raise
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            for p in group["params"]:
                if p.grad is None and p in starts:
                    p.copy_(starts[p])
            if moving:
                previous = [_previous(self.state[p], p) for p in moving]
                torch._foreach_copy_(previous, [starts.get(p, p) for p in moving])
                gradients = _gradients(moving, group["weight_decay"])
                torch._foreach_add_(moving, gradients, alpha=-float(group["lr"]))  # x⁺ = x_ahead − α g
        if discard:
            self.zero_grad()
        return loss


heavy_ball = HeavyBall
nesterov = Nesterov


def _previous(state: dict[str, Any], p: Tensor) -> Tensor:
    if "previous" not in state:
        state["previous"] = p.detach().clone()
    previous: Tensor = state["previous"]
    return previous


def _gradients(params: list[Tensor], weight_decay: float) -> list[Tensor]:
    gradients = [p.grad for p in params if p.grad is not None]
    if any(gradient.is_sparse for gradient in gradients):
        raise UserError(
            "momentum moves every coordinate and does not support sparse gradients; use sparse_adam instead"
        )
    return list(torch._foreach_add(gradients, params, alpha=weight_decay)) if weight_decay else gradients
