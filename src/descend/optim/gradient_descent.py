"""Gradient descent whose step is found by backtracking until the loss falls enough (Armijo's test).

With g the gradient of F at x, from t = t₀, ρ t₀, ρ² t₀, … the first is taken that has

    F(x − t g) ≤ F(x) − c t ‖g‖².

If the gradient is Lipschitz with constant L, F(x − t g) ≤ F(x) − t (1 − L t/2) ‖g‖², so that every t ≤ 2 (1 − c)/L passes,
and the t taken is t₀ or more than 2 ρ (1 − c)/L. F never grows; no L has to be known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.domains import Positive, Share
from descend.errors import UserError
from descend.method import method
from descend.optim.building import Params, build

__all__ = ["GD", "gd"]


@final
class GD(Optimizer):
    """x⁺ = x − t g with t found by backtracking over all parameters at once; see :func:`gd`.

    It has no state. ``c`` and ``rho`` belong to the step as a whole: those of the first group count.
    """

    def __init__(self, params: Params, lr: float, c: float, rho: float) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be 0 or more; found {lr}")
        for name, value in (("c", c), ("rho", rho)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be above 0 and below 1; found {value}")
        super().__init__(params, {"lr": lr, "c": c, "rho": rho})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step, and return the loss before it.

        ``closure`` is evaluated once where the step starts and once for each t that is tried. Where rounding hides every
        decrease the parameters stay where they are.

        Raises:
            UserError: there is no closure, or a gradient is sparse.
        """
        if closure is None:
            raise UserError(
                "gd compares losses, so its step needs a function that computes one and its gradient: "
                "optimizer.step(closure); sgd steps without one"
            )
        before = _evaluated(closure)
        moving = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not moving:
            return before
        params = [p for p, _ in moving]
        # Copies, as the closure fills the gradients anew. With a rate for each group, t g is meant group by group.
        steps = [_dense(p) * float(group["lr"]) for p, group in moving]
        slope = float(sum(torch.sum(step * p.grad) for step, p in zip(steps, params, strict=True)))
        if slope == 0.0:
            return before
        c, rho = self.param_groups[0]["c"], self.param_groups[0]["rho"]
        starts = [p.clone() for p in params]
        value, share, least = _number(before), 1.0, torch.finfo(params[0].dtype).eps ** 2
        accepted = False
        try:
            while not accepted and share >= least:
                torch._foreach_copy_(params, torch._foreach_sub(starts, steps, alpha=share))
                # The difference of the losses, as value − c t ‖g‖² may round to value. One that is not a number fails.
                accepted = value - _number(_evaluated(closure)) >= c * share * slope
                share *= rho
        finally:  # whatever happens, Ctrl-C included
            if not accepted:
                torch._foreach_copy_(params, starts)
        return before


def _evaluated(closure: Callable[[], Any]) -> Any:
    with torch.enable_grad():
        return closure()


def _number(loss: Any) -> float:
    return float(loss.detach() if isinstance(loss, Tensor) else loss)


def _dense(p: Tensor) -> Tensor:
    gradient = p.grad
    assert gradient is not None
    if gradient.is_sparse:
        raise UserError("gd moves every coordinate, and does not take sparse gradients; use sparse_adam")
    return gradient


@method(
    row="D1",
    reference="Armijo 1966; Nocedal and Wright 2006, algorithm 3.1",
    formula="x <- x - t g, the first t of lr, rho lr, rho^2 lr, ... with F(x - t g) <= F(x) - c t |g|^2",
    note="The lecture prints Armijo's test with an approximate sign; it is an inequality, with c between 0 and 1. With "
    '[data] sampling = "full" F is the loss of all rows and never grows; with batches it is the batch\'s.',
)
def gd(params: Params, *, lr: Positive = 1.0, c: Share = 1e-4, rho: Share = 0.5) -> Optimizer:
    """Gradient descent with backtracking: the longest of a series of steps that lowers the loss enough.

    A step costs a loss and a gradient for each t tried, and one more of each.

    Args:
        params: parameters or groups; a group's rate is its own, and all are shortened together.
        lr: t₀, the first t tried. Default 1.
        c: how much of the decrease that the slope promises is asked for. Default 1e-4.
        rho: ρ, the factor from one t to the next. Default 0.5.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure.

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = gd([w], lr=1.0)
    >>> def closure():
    ...     optimizer.zero_grad(); loss = 2 * (w * w).sum(); loss.backward(); return loss
    >>> _ = optimizer.step(closure)  # t = 1 leads to -3, t = 1/2 to -1, t = 1/4 to 0
    >>> w.item()
    0.0
    """
    return build(GD, params, {"lr": lr, "c": c, "rho": rho})
