"""Gradient descent whose step is found by backtracking until the loss falls enough (Armijo's test).

With g the gradient of F at x, from t = t₀, ρ t₀, ρ² t₀, … the first is taken that has

    F(x − t g) ≤ F(x) − c t ‖g‖².

If the gradient is Lipschitz with constant L, F(x − t g) ≤ F(x) − t (1 − L t/2) ‖g‖², so that every t ≤ 2 (1 − c)/L passes,
and the t taken is t₀ or more than 2 ρ (1 − c)/L. F never grows; no L has to be known.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch.optim import Optimizer

from descend.cards import method
from descend.optim.building import Params, build
from descend.optim.evaluation import Evaluations
from descend.optim.line_search import armijo
from descend.optim.whole import Position, WholeStep
from descend.param_types import Positive, Share

__all__ = ["GD", "gd"]


@final
class GD(WholeStep):
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

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """One evaluation where the step starts, and one of the loss for each t that is tried.

        Where rounding hides every decrease the parameters stay where they are.
        """
        gradient = asked.gradient()
        # With a rate for each group, t g is meant group by group.
        step = -self.by_rate(gradient.vector)

        def value_at(share: float) -> float:
            position.move(step, share)
            return asked.value()

        slope = float(torch.dot(step, gradient.vector))
        c, rho = self.param_groups[0]["c"], self.param_groups[0]["rho"]
        least = torch.finfo(step.dtype).eps ** 2
        if armijo(value_at, gradient.number, slope, c=c, rho=rho, least=least) is None:
            position.back()
        return gradient.loss


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
