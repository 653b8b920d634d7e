"""Gradient descent with backtracking: the step is shortened until the loss falls enough (Armijo's condition).

With g the gradient of F at x, the first t of t₀, ρ t₀, ρ² t₀, … is taken that satisfies

    F(x − t g) ≤ F(x) − c₁ t ‖g‖².

If the gradient is Lipschitz with constant L, F(x − t g) ≤ F(x) − t (1 − L t/2) ‖g‖², so that every t ≤ 2 (1 − c₁)/L
is accepted, and the accepted t is t₀ or more than 2 ρ (1 − c₁)/L. F never increases, and L need not be known.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from descend.cards import method
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations
from descend.optim.line_search import armijo
from descend.optim.vector_step import Position, VectorStep
from descend.param_types import NonNegative, Positive, Share

__all__ = ["GD", "gd"]


@method(
    row="D1",
    reference="Armijo 1966; Nocedal and Wright 2006, algorithm 3.1",
    formula="x <- x - t g, the first t of lr, rho lr, rho^2 lr, ... with F(x - t g) <= F(x) - c1 t |g|^2",
    note="Armijo's condition is an inequality with c1 between 0 and 1; some texts print it with an approximate sign. With "
    '[data] sampling = "full" F is the loss of all rows and never increases; with batches it is the loss of the batch.',
)
@final
class GD(VectorStep):
    """Gradient descent with backtracking: the longest of a sequence of steps that lowers the loss enough.

    A step costs one gradient, one loss for the first t and one more for each further t that is tried. There is no
    state. ``c1`` and ``rho`` apply to the step as a whole, and those of the first group are used. Where rounding hides
    every decrease the parameters do not move.

    Args:
        params: parameters or groups, each with its own learning rate; all are shortened together.
        lr: t₀, the first t that is tried. Default 1.
        c1: the share of the decrease predicted by the gradient that is required. Default 1e-4.
        rho: ρ, the factor from one t to the next. Default 0.5.
        weight_decay: λ; λ ‖x‖²/2 is added to F, so that λ x is added to the gradient as in torch.optim.SGD. Default 0.

    Raises:
        UserError: a setting is outside its domain; ``step`` is called without a closure.

    >>> w = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = GD([w], lr=1.0)
    >>> def closure():
    ...     optimizer.zero_grad(); loss = 2 * (w * w).sum(); loss.backward(); return loss
    >>> _ = optimizer.step(closure)  # t = 1 leads to -3, t = 1/2 to -1, t = 1/4 to 0
    >>> w.item()
    0.0
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        *,
        c1: Share = 1e-4,
        rho: Share = 0.5,
        weight_decay: NonNegative = 0.0,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Evaluate the gradient at the start, and the loss for each t that is tried."""
        gradient = objective.gradient()
        vector, value, decay = gradient.vector, gradient.number, self._decay(gradient.missing, position)
        if decay is not None:
            vector = vector + decay * position.start
            value += _penalty(decay, position.start)
        step = -self.times_lr(vector)  # each group with its own learning rate

        def value_at(t: float) -> float:
            position.move(step, t)
            loss = objective.value()
            return loss if decay is None else loss + _penalty(decay, position.start + t * step)

        slope = float(torch.dot(step, vector))
        c1, rho = self.param_groups[0]["c1"], self.param_groups[0]["rho"]
        shortest = torch.finfo(step.dtype).eps ** 2
        if armijo(value_at, value, slope, c1=c1, rho=rho, shortest=shortest) is None:
            position.back()
        return gradient.loss

    def _decay(self, missing: Tensor | None, position: Position) -> Tensor | None:
        """The weight decay of each entry, (n,), 0 for entries without a gradient; None where there is none at all."""
        if not any(group["weight_decay"] for group in self.param_groups):
            return None
        decay = torch.empty_like(position.start)
        at = 0
        for group in self.param_groups:
            count = sum(p.numel() for p in group["params"])
            decay[at : at + count] = group["weight_decay"]
            at += count
        return decay if missing is None else decay.masked_fill(missing, 0.0)


def _penalty(decay: Tensor, x: Tensor) -> float:
    """Σ λ x²/2."""
    return float(torch.dot(decay * x, x)) / 2


gd = GD
