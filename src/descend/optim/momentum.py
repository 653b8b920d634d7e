"""Momentum with the learning rate inside: the heavy ball, and Nesterov's method with the gradient at the look-ahead point.

With x the iterate, v the last step (v = 0 at first), α the learning rate and β the momentum

=========== ================================================================
heavy ball  v ← β v − α ∇f(x);  x ← x + v
Nesterov    v ← β v − α ∇f(x + β v);  x ← x + v
=========== ================================================================

v is the last step at the length it was taken, x − x⁻ for consecutive iterates x⁻ and x. PyTorch's SGD accumulates
gradients and multiplies the sum by the current learning rate. The two agree while the learning rate is constant; when it
falls, the heavy ball keeps its velocity. PyTorch's ``nesterov=True`` stores the look-ahead points x + β v instead of the
iterates, so that the gradient can be evaluated at the parameters.

The step is stored, and not the previous iterate: weights that are set from outside, or shrunk by decoupled weight decay,
are not taken for momentum. Hooks after the step, such as a projection or a proximal step, are part of the step: with
them v is the displacement x⁺ − x that remains (FISTA of Beck and Teboulle 2009; iPiano of Ochs et al. 2014), without
which the iterates would converge to the solution of another problem.

On a quadratic with curvatures in [m, L], κ = L/m, gradient descent contracts at best by (κ − 1)/(κ + 1) per step, and the
heavy ball with α = 4/(√L + √m)² and β = ((√κ − 1)/(√κ + 1))² by (√κ − 1)/(√κ + 1) (Polyak 1964). Nesterov's method
with α = 1/L and β = (√κ − 1)/(√κ + 1) reduces every strongly convex f by 1 − 1/√κ per step.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import CheckedOptimizer, Params
from descend.param_types import Fraction, NonNegative, Positive

__all__ = ["HeavyBall", "Nesterov", "heavy_ball", "nesterov"]


class _Inertial(CheckedOptimizer, ABC):
    """An optimizer whose state is the last step of each parameter, including what hooks after the step do to it."""

    lr_is_step_size = True
    _measuring: RemovableHandle | None = None
    _starts: Mapping[Tensor, Tensor] | None = None

    def register_step_post_hook(self, hook: Callable[..., None]) -> RemovableHandle:
        """Register a hook that is called after each step; its displacement is part of the step."""
        handle = super().register_step_post_hook(hook)
        if self._measuring is None:
            self._measuring = super().register_step_post_hook(_measure_displacement)
        hooks = self._optimizer_step_post_hooks
        hooks[self._measuring.id] = hooks.pop(self._measuring.id)  # it stays the last one
        return handle

    def _remember_starts(self) -> None:
        """Keep the parameters as they are before the step, if a hook may move them after it."""
        moved_later = len(self._optimizer_step_post_hooks) > 1
        moving = (p for group in self.param_groups for p in _moving(group))
        self._starts = {p: p.detach().clone() for p in moving} if moved_later else None


@torch.no_grad()
def _measure_displacement(optimizer: Optimizer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    starts = getattr(optimizer, "_starts", None) or {}
    for p, start in starts.items():
        optimizer.state[p]["velocity"].copy_(p).sub_(start)


@method(
    row="D4",
    reference="Polyak 1964",
    formula="v <- b v - a g; x <- x + v",
    note="The learning rate is inside. PyTorch's SGD keeps it outside of its buffer: the two agree while the learning "
    "rate is constant, and differ as soon as a schedule changes it.",
)
@final
class HeavyBall(_Inertial):
    """Polyak's heavy-ball method: a gradient step plus a share of the previous step.

    Along a valley the steps add up to a velocity of α/(1 − β) gradients; across it they cancel.

    The state of a parameter is ``velocity``, its v. Parameters without a gradient do not move.

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
        self._remember_starts()
        for group in self.param_groups:
            moving = _moving(group)
            if moving:
                velocities = [_velocity(self.state[p], p) for p in moving]
                gradients = _gradients(moving, group["weight_decay"])
                heavy_ball_update(moving, velocities, gradients, float(group["lr"]), group["momentum"])
        if discard:
            self.zero_grad()
        return loss


def heavy_ball_update(
    x: list[Tensor], velocities: list[Tensor], gradients: list[Tensor], lr: float, momentum: float
) -> None:
    """Set v ← β v − α g and x ← x + v, in place."""
    torch._foreach_mul_(velocities, momentum)
    torch._foreach_add_(velocities, gradients, alpha=-lr)
    torch._foreach_add_(x, velocities)


@method(
    row="D5",
    reference="Nesterov 1983; Sutskever et al. 2013",
    formula="v <- b v - a grad f(x + b v); x <- x + v",
    note="The closure is evaluated at the look-ahead point, and between steps the parameters are the iterates x. "
    "PyTorch's SGD with nesterov=True stores the look-ahead points instead, and takes the same steps while the learning "
    "rate is constant.",
)
@final
class Nesterov(_Inertial):
    """Nesterov's accelerated gradient method: the momentum step first, then the gradient at the point it leads to.

    A step costs one gradient, as with the heavy ball. The loss that a step returns is that of the look-ahead point.

    The state of a parameter is ``velocity``, its v. Between steps the parameters hold x.

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
            if self.state[p]  # at the first step v = 0, and the look-ahead point is x itself
        ]
        starts = {p: p.clone() for p, _ in started}
        for p, momentum in started:
            p.add_(_velocity(self.state[p], p), alpha=momentum)
        try:
            loss, discard = self.evaluate(closure)
            gradients = [_gradients(_moving(group), group["weight_decay"]) for group in self.param_groups]
        finally:  # the parameters are x again, also after a KeyboardInterrupt
            for p, start in starts.items():
                p.copy_(start)
        self._remember_starts()
        for group, own in zip(self.param_groups, gradients, strict=True):
            if own:
                moving = _moving(group)
                velocities = [_velocity(self.state[p], p) for p in moving]
                heavy_ball_update(moving, velocities, own, float(group["lr"]), group["momentum"])
        if discard:
            self.zero_grad()
        return loss


heavy_ball = HeavyBall
nesterov = Nesterov


def _moving(group: dict[str, Any]) -> list[Tensor]:
    return [p for p in group["params"] if p.grad is not None]


def _velocity(state: dict[str, Any], p: Tensor) -> Tensor:
    if "velocity" not in state:
        # States saved by earlier versions contain the previous iterate.
        previous = state.pop("previous", None)
        state["velocity"] = torch.zeros_like(p) if previous is None else p.detach() - previous
    velocity: Tensor = state["velocity"]
    return velocity


def _gradients(params: list[Tensor], weight_decay: float) -> list[Tensor]:
    gradients = [p.grad for p in params if p.grad is not None]
    if any(gradient.is_sparse for gradient in gradients):
        raise UserError(
            "momentum moves every coordinate and does not support sparse gradients; use sparse_adam instead"
        )
    if not weight_decay or not gradients:
        return gradients
    return list(torch._foreach_add(gradients, params, alpha=weight_decay))
