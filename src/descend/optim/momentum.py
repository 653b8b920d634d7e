"""Momentum as the lecture writes it: heavy ball, and Nesterov's gradient at the look-ahead point.

With x the iterate, x⁻ the one before it (x⁻ = x at the first step), α the rate and β the momentum

=========== ====================================================================
heavy ball  x⁺ = x + β (x − x⁻) − α ∇f(x)
Nesterov    x_ahead = x + β (x − x⁻);  x⁺ = x_ahead − α ∇f(x_ahead)
=========== ====================================================================

The rate stands inside: what is kept is the last step, of the size that was taken. PyTorch's SGD keeps a sum of
gradients and multiplies it by the rate of the day. While the rate is constant the two are the same, and when it
falls the heavy ball goes on with the speed that it has. PyTorch's ``nesterov`` stores the look-ahead points and not
the iterates, so that its gradient can be taken at the parameters as they are.

On a quadratic with curvatures in [m, L], κ = L/m, gradient descent contracts at best by (κ − 1)/(κ + 1) a step; the
heavy ball with α = 4/(√L + √m)² and β = ((√κ − 1)/(√κ + 1))² by (√κ − 1)/(√κ + 1) (Polyak 1964). Nesterov's method
with α = 1/L and β = (√κ − 1)/(√κ + 1) lowers every strongly convex f by 1 − 1/√κ a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.cards import method
from descend.errors import UserError
from descend.optim.building import Params, build
from descend.param_types import Fraction, Positive

__all__ = ["HeavyBall", "Nesterov", "heavy_ball", "nesterov"]


@final
class HeavyBall(Optimizer):
    """x⁺ = x + β (x − x⁻) − α g, for each parameter that has a gradient g; see :func:`heavy_ball`.

    The state of a parameter is ``previous``, its x⁻.
    """

    def __init__(self, params: Params, lr: float, momentum: float) -> None:
        super().__init__(params, _checked(lr, momentum))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; ``closure``, if given, is evaluated once at x, and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [p for p in group["params"] if p.grad is not None]
            if moving:
                previous = [_previous(self.state[p], p) for p in moving]
                momentum = torch._foreach_sub(moving, previous)
                torch._foreach_copy_(previous, moving)
                torch._foreach_add_(moving, momentum, alpha=group["momentum"])
                torch._foreach_add_(moving, _gradients(moving), alpha=-float(group["lr"]))
        return loss


@final
class Nesterov(Optimizer):
    """Steps from the look-ahead point with the gradient of the look-ahead point; see :func:`nesterov`.

    The state of a parameter is ``previous``, its x⁻. Between steps the parameters hold x.
    """

    def __init__(self, params: Params, lr: float, momentum: float) -> None:
        super().__init__(params, _checked(lr, momentum))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step. ``closure`` is evaluated once, at the look-ahead point, and its loss there returned.

        Raises:
            UserError: there is no closure: a gradient at x is not the gradient that the method needs.
        """
        if closure is None:
            raise UserError(
                "nesterov takes the gradient at the look-ahead point, so its step needs a function that computes "
                "it there: optimizer.step(closure); sgd with nesterov=True steps without one"
            )
        known = [
            (p, group["momentum"])
            for group in self.param_groups
            for p in group["params"]
            if self.state[p]  # at first x⁻ = x, and the look-ahead point is x itself
        ]
        starts = {p: p.clone() for p, _ in known}
        for p, momentum in known:
            p.add_(p - self.state[p]["previous"], alpha=momentum)
        try:
            with torch.enable_grad():
                loss = closure()
        except BaseException:  # also Ctrl-C: the parameters are x again, whatever happens
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
                torch._foreach_add_(moving, _gradients(moving), alpha=-float(group["lr"]))
        return loss


def _checked(lr: float, momentum: float) -> dict[str, Any]:
    if not lr >= 0:
        raise ValueError(f"lr must be 0 or more; found {lr}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be 0 or more and below 1; found {momentum}")
    return {"lr": lr, "momentum": momentum}


def _previous(state: dict[str, Any], p: Tensor) -> Tensor:
    if "previous" not in state:
        state["previous"] = p.detach().clone()
    previous: Tensor = state["previous"]
    return previous


def _gradients(params: list[Tensor]) -> list[Tensor]:
    gradients = [p.grad for p in params if p.grad is not None]
    if any(gradient.is_sparse for gradient in gradients):
        raise UserError(
            "momentum moves every coordinate, and does not take sparse gradients; use sparse_adam"
        )
    return gradients


@method(
    row="D4",
    reference="Polyak 1964",
    formula="x+ = x - a g + b (x - x-)",
    note="The lecture's form, with the rate inside. PyTorch's SGD keeps the rate outside its buffer: equal while the "
    "rate is constant, and different as soon as a schedule changes it.",
)
def heavy_ball(params: Params, *, lr: Positive = 0.01, momentum: Fraction = 0.9) -> Optimizer:
    """Polyak's heavy ball: a gradient step, and a share of the last step again.

    Along a valley the steps add up to a speed of α/(1 − β) gradients; across it they cancel.

    Args:
        params: parameters or groups.
        lr: α, the rate. Default 0.01; a recipe's rule for regression on few rows is finer (docs/defaults.md).
        momentum: β, the share of the last step that is taken again, after Sutskever et al. 2013. Default 0.9.

    Raises:
        UserError: a setting outside its domain.

    >>> w = torch.ones(1, requires_grad=True)
    >>> optimizer = heavy_ball([w], lr=0.5, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.zero_grad(); w.sum().backward(); optimizer.step()
    >>> w.item()  # 1 - 0.5, then - 0.5 - 0.5 * 0.5
    -0.25
    """
    return build(HeavyBall, params, {"lr": lr, "momentum": momentum})


@method(
    row="D5",
    reference="Nesterov 1983; Sutskever et al. 2013",
    formula="x_ahead = x + b (x - x-); x+ = x_ahead - a grad f(x_ahead)",
    note="The lecture's two lines: the closure is evaluated at the look-ahead point, and between steps the "
    "parameters are the iterates x. PyTorch's SGD with nesterov stores the look-ahead points in their place, and "
    "takes the same steps while the rate is constant.",
)
def nesterov(params: Params, *, lr: Positive = 0.01, momentum: Fraction = 0.9) -> Optimizer:
    """Nesterov's accelerated gradient: first the momentum, then the gradient where it led.

    It costs one gradient a step, as the heavy ball. The loss that a step returns is that of the look-ahead point.

    Args:
        params: parameters or groups.
        lr: α, the rate. Default 0.01; a recipe's rule for regression on few rows is finer (docs/defaults.md).
        momentum: β, the share of the last step that is taken again, after Sutskever et al. 2013. Default 0.9.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure.

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = nesterov([w], lr=0.5, momentum=0.5)
    >>> def closure():
    ...     optimizer.zero_grad(); loss = (w * w / 2).sum(); loss.backward(); return loss
    >>> for _ in range(2):
    ...     _ = optimizer.step(closure)
    >>> w.item()  # 1 -> 0.5; ahead 0.25 -> 0.125
    0.125
    """
    return build(Nesterov, params, {"lr": lr, "momentum": momentum})
