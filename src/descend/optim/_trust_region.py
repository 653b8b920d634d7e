"""Trust region methods: steps on a quadratic model of the loss, within the ball in which the model has proved accurate.

At x, with gradient g and curvature B, truncated conjugate gradients minimize the model m(s) = g·s + s·Bs/2 within the ball
‖s‖ ≤ Δ. They end inside the ball if the model's gradient is small, and otherwise on its boundary, where they would leave the
ball or encounter a direction of negative curvature (Steihaug 1983). Then the loss is evaluated at x + s, and its decrease is
compared with that of the model:

    r = (F(x) − F(x + s)) / (m(0) − m(s)).

=============== ======================= ==================================
r               step                    next radius
=============== ======================= ==================================
NaN             rejected                ‖s‖/4
below η         rejected                ‖s‖/4
below 1/4       accepted                ‖s‖/4
up to 3/4       accepted                Δ
above 3/4       accepted                2 Δ if ‖s‖ = Δ, else Δ
=============== ======================= ==================================

So F never increases, directions of negative curvature are exploited, and near a minimum with a positive definite Hessian the
constraint is inactive and the steps are Newton's.
"""

from __future__ import annotations

import math
from abc import ABC
from typing import Any, final

import torch

from descend.cards import method
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations
from descend.optim.truncated_newton import CurvatureKind, TruncatedNewton
from descend.optim.vector_step import Position
from descend.param_types import AtLeastOne, BelowAQuarter, Count, Fraction, Portion, Positive

__all__ = ["STRON", "TrustRegion", "next_radius", "stron", "trust_region"]

SHRINK, GROW = 0.25, 2.0
"""Factors of the radius after a bad and after a good step."""

BAD, GOOD = 0.25, 0.75
"""Ratios below and above which a step is bad or good."""


def next_radius(radius: float, length: float, ratio: float, on_boundary: bool) -> float:
    """Return the radius after a step.

    It lies in the intervals of Lin and Moré (1999), which the authors of STRON adopt.

    Args:
        radius: Δ.
        length: ‖s‖.
        ratio: r; NaN if the loss at x + s is not finite.
        on_boundary: whether the step ends on the boundary of the ball.

    >>> next_radius(1.0, 1.0, 0.9, True), next_radius(1.0, 0.5, 0.9, False), next_radius(1.0, 0.5, float("nan"), False)
    (2.0, 1.0, 0.125)
    """
    if not ratio >= BAD:
        return SHRINK * min(length, radius)
    return GROW * radius if ratio > GOOD and on_boundary else radius


class _RatioStep(TruncatedNewton, ABC):
    """A step within the ball that is accepted if the loss decreases as the model predicts."""

    def initial_radius(self, gradient_norm: float) -> float:
        """Return the first radius, relative to the learning rate."""
        return 1.0

    def attempt(self, objective: Evaluations, position: Position) -> Any:
        """Try one step, accept or reject it, and update the radius."""
        gradient, curvature = self.scaled_gradient(objective), self.curvature(objective)
        if gradient.permits_no_step:
            return gradient.loss
        memory = self.memory
        # A radius below the spacing of the parameters' values, as after a gradient of 1e-30, would need dozens of steps that move
        # nothing before it matters again.
        spacing = torch.finfo(position.start.dtype).eps * float(torch.linalg.vector_norm(position.start))
        radius = max(memory.get("radius", self.initial_radius(gradient.norm)), spacing / gradient.lr)
        solution = self.solve(gradient.in_y(curvature), gradient, radius=radius * gradient.lr)
        if not solution.decrease > 0.0:  # the gradient is zero, or the curvature is NaN
            return gradient.loss
        position.move(gradient.in_parameters(solution.step))
        value = float(gradient.loss)
        decrease = value - objective.value()
        # If both decreases are below the rounding errors, their ratio is meaningless and taken as 1
        # (Conn, Gould and Toint 2000, section 17.4.2).
        rounding = 10.0 * torch.finfo(solution.step.dtype).eps * abs(value)
        # An infinite loss at either end says nothing about the model: the step is rejected, and the radius shrinks.
        ratio = (
            (decrease + rounding) / (solution.decrease + rounding) if math.isfinite(decrease) else math.nan
        )
        length = float(torch.linalg.vector_norm(solution.step)) / gradient.lr
        on_boundary = solution.ending in ("boundary", "negative curvature")
        memory["radius"] = next_radius(radius, length, ratio, on_boundary)
        if not (ratio >= self.param_groups[0]["eta"] and decrease >= 0.0):
            position.back()
        return gradient.loss


@method(
    row="D2",
    reference="Steihaug 1983; Nocedal and Wright 2006, algorithms 4.1 and 7.2",
    formula="s = argmin g.s + s.B s/2 over |s| <= radius, by truncated CG; x <- x + s if F decreases by eta or more of the "
    "model's decrease; radius/4 or 2 radius by the ratio",
    note="At a saddle point itself the gradient is zero, and no method that starts from the gradient moves; next to it the "
    "negative curvature is found and followed.",
)
@final
class TrustRegion(_RatioStep):
    """Steihaug's trust region method: the step minimizes a quadratic model within a ball of adaptive radius.

    A step costs two gradients, two more for each iteration of conjugate gradients, and a loss. The state is one number, the
    radius. In contrast to Newton's method with a line search, it exploits negative curvature and thus leaves saddle points
    quickly.

    The settings apply to the step as a whole, and those of the first parameter group are used. If the learning rates of the
    groups differ, the ball is an ellipsoid, shorter in the directions of the lower ones.

    Args:
        params: parameters or groups.
        lr: the first radius. All later ones are multiples of it, so that schedules affect them. Default 1.
        curvature: B: "hessian", or "gauss_newton", for which ``step`` needs the network's outputs
            (:class:`descend.optim.Rows`). Default "hessian".
        eta: η, the smallest ratio of the loss's decrease to the model's for which a step is accepted, below 1/4. Default 1e-4.
        cg_tolerance: conjugate gradients end at a residual of min(cg_tolerance, √‖g‖) ‖g‖. Default 0.5.
        cg_max_iter: maximum number of conjugate gradient iterations. Default 100.

    Raises:
        UserError: a setting is outside its domain; ``step`` has no closure, or one that returns a loss without its graph.

    >>> w = torch.tensor([0.0, 1e-3], requires_grad=True)  # next to the saddle point of x² + y⁴/4 − y²/2
    >>> optimizer = TrustRegion([w])
    >>> for _ in range(8):
    ...     loss = optimizer.step(lambda: w[0] ** 2 + w[1] ** 4 / 4 - w[1] ** 2 / 2)
    >>> round(w[1].item(), 3)
    1.0
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        *,
        curvature: CurvatureKind = "hessian",
        eta: BelowAQuarter = 1e-4,
        cg_tolerance: Fraction = 0.5,
        cg_max_iter: Count = 100,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Try one step on all rows."""
        return self.attempt(objective, position)


@method(
    row="D14",
    reference="Chauhan, Sharma and Dahiya 2018, algorithm 1",
    formula="as trust_region, with loss, gradient and curvature of the first rows of a fixed order, growing in number",
    note="At negative curvature, conjugate gradients follow the direction to the boundary of the ball; the authors' code, "
    "written for convex losses, would step uphill. The radius follows Nocedal and Wright's rule, within the intervals that the "
    "paper allows. The training loss that a run records is that of the sample until the sample contains all rows.",
)
@final
class STRON(_RatioStep):
    """STRON: a trust region method on a sample of the rows that grows until it contains all of them.

    Far from the minimum, few rows suffice to determine the direction, and a step on them costs a fraction of one on all rows. A
    step is computed entirely on the sample: loss, gradient, curvature, and the loss at the trial point. A larger sample
    contains the smaller ones. Once it contains all rows, after log(1/sample_fraction)/log(sample_growth) steps, the loss
    decreases with every accepted step, and the method is :class:`TrustRegion`. The state is two numbers, the radius and the
    current fraction.

    Args:
        params: parameters or groups; different learning rates act as for :class:`TrustRegion`.
        lr: factor of all radii; the first radius is this times the norm of the first gradient. Default 1.
        curvature: B: "hessian", or "gauss_newton". Default "hessian".
        sample_fraction: fraction of the rows in the first sample; below 1, ``step`` needs an objective that can evaluate
            subsets of the rows (:class:`descend.optim.Rows`, with rows in random order). Default 0.25.
        sample_growth: factor of the fraction from step to step, until it is 1. Default 1.2.
        eta: η, the smallest ratio of the loss's decrease to the model's for which a step is accepted, below 1/4. Default 1e-4.
        cg_tolerance: conjugate gradients end at a residual of min(cg_tolerance, √‖g‖) ‖g‖; 0.1 in the paper. Default 0.5.
        cg_max_iter: maximum number of conjugate gradient iterations. Default 100.

    Raises:
        UserError: a setting is outside its domain; ``step`` has no closure, or one that cannot evaluate subsets of the rows.

    >>> from descend.optim import Rows
    >>> model, x = torch.nn.Linear(1, 1), torch.linspace(-1, 1, 50)[torch.randperm(50), None]
    >>> rows = Rows(model, torch.nn.functional.mse_loss, x, 3 * x + 1)
    >>> optimizer = STRON(model.parameters(), sample_growth=2.0)
    >>> for _ in range(15):
    ...     loss = optimizer.step(rows)
    >>> round(model.weight.item(), 3), round(model.bias.item(), 3)
    (3.0, 1.0)
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        *,
        curvature: CurvatureKind = "hessian",
        sample_fraction: Portion = 0.25,
        sample_growth: AtLeastOne = 1.2,
        eta: BelowAQuarter = 1e-4,
        cg_tolerance: Fraction = 0.5,
        cg_max_iter: Count = 100,
    ) -> None:
        super().__init__(params, locals())

    def initial_radius(self, gradient_norm: float) -> float:
        """Return the norm of the first gradient."""
        return gradient_norm

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Try one step on the first rows of an order that is the same in every step."""
        group = self.param_groups[0]
        fraction = self.memory.get("share", group["sample_fraction"])
        loss = self.attempt(objective.part(fraction, nested=True), position)
        self.memory["share"] = min(1.0, fraction * group["sample_growth"])
        return loss


trust_region = TrustRegion
stron = STRON
