"""Trust regions: a step no longer than the model of the loss has proved to hold.

At x, with gradient g and curvature B, truncated conjugate gradients lower the model m(s) = g·s + s·Bs/2 within the ball
‖s‖ ≤ Δ: they end inside where the model's gradient is small, and else on the surface, where they would leave the ball or meet a
direction of negative curvature (Steihaug 1983). The loss is then computed at x + s, and the decrease compared with
the model's:

    r = (F(x) − F(x + s)) / (m(0) − m(s)).

=============== ======================= ==================================
r               the step                the next radius
=============== ======================= ==================================
not a number    is not taken            ‖s‖/4
below accept    is not taken            ‖s‖/4
below 1/4       is taken                ‖s‖/4
up to 3/4       is taken                Δ
above 3/4       is taken                2 Δ if ‖s‖ = Δ, else Δ
=============== ======================= ==================================

So F never grows, directions of negative curvature are used rather than feared, and near a minimum with a positive definite
Hessian the ball is out of the way and the steps are Newton's.
"""

from __future__ import annotations

from abc import ABC
from typing import Any, final

import torch
from torch.optim import Optimizer

from descend.cards import method
from descend.optim.base import Params
from descend.optim.building import build
from descend.optim.curved import CurvedStep, Matrix, require
from descend.optim.evaluation import Evaluations
from descend.optim.vector_step import Position
from descend.param_types import AtLeastOne, BelowAQuarter, Count, Fraction, Portion, Positive

__all__ = ["STRON", "TrustRegion", "next_radius", "stron", "trust_region"]

SHRINK, GROW = 0.25, 2.0
"""What a radius is multiplied by after a bad step and after a good one."""

BAD, GOOD = 0.25, 0.75
"""Steps whose ratio is below or above these are bad or good."""


def next_radius(radius: float, length: float, ratio: float, on_surface: bool) -> float:
    """The radius after a step.

    It lies in the intervals of Lin and Moré (1999), which STRON's authors take over.

    Args:
        radius: Δ.
        length: ‖s‖.
        ratio: r; NaN for a step into a place where the loss is not finite.
        on_surface: whether the ball ended the step.

    >>> next_radius(1.0, 1.0, 0.9, True), next_radius(1.0, 0.5, 0.9, False), next_radius(1.0, 0.5, float("nan"), False)
    (2.0, 1.0, 0.125)
    """
    if not ratio >= BAD:
        return SHRINK * min(length, radius)
    return GROW * radius if ratio > GOOD and on_surface else radius


class _RatioStep(CurvedStep, ABC):
    """A step within the ball that is taken if the loss falls as the model says."""

    def first_radius(self, size: float) -> float:
        """In units of the rate; ``size`` is ‖g‖."""
        return 1.0

    def attempt(self, asked: Evaluations, position: Position) -> Any:
        """One step, taken or not, and the next radius."""
        slope, curvature = self.slope(asked), self.curvature(asked)
        if slope.leads_nowhere:
            return slope.loss
        memory = self.memory
        radius = memory.get("radius", self.first_radius(slope.size))
        solution = self.solve(slope.in_y(curvature), slope, radius=radius * slope.rate)
        if not solution.decrease > 0.0:  # a gradient of zero, or a curvature that is no number
            return slope.loss
        position.move(slope.in_parameters(solution.step))
        value = float(slope.loss)
        fallen = value - asked.value()
        # Where both decreases drown in rounding, their ratio means nothing and is taken for 1
        # (Conn, Gould and Toint 2000, section 17.4.2).
        drowned = 10.0 * torch.finfo(solution.step.dtype).eps * abs(value)
        ratio = (fallen + drowned) / (solution.decrease + drowned)
        length = float(torch.linalg.vector_norm(solution.step)) / slope.rate
        on_surface = solution.ending in ("boundary", "negative curvature")
        memory["radius"] = next_radius(radius, length, ratio, on_surface)
        if not (ratio >= self.param_groups[0]["accept"] and fallen >= 0.0):
            position.back()
        return slope.loss


@final
class TrustRegion(_RatioStep):
    """Steihaug's trust region on all rows; see :func:`trust_region`.

    Its state is one number, the radius. The settings belong to the step as a whole: those of the first group count. Where
    groups have different rates, the ball is an ellipsoid, shorter in the directions of the lower ones.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        curvature: Matrix = "hessian",
        accept: float = 1e-4,
        forcing: float = 0.5,
        limit: int = 100,
    ) -> None:
        require("accept", accept, 0 <= accept < BAD, "0 or more and below 1/4")
        super().__init__(params, lr=lr, curvature=curvature, forcing=forcing, limit=limit, accept=accept)

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """One gradient, one curvature with a product for each iteration, and one loss."""
        return self.attempt(asked, position)


@final
class STRON(_RatioStep):
    """A trust region on a growing sample; see :func:`stron`.

    Its state is two numbers, the radius and the share. The settings belong to the step as a whole: those of the first group
    count. Where groups have different rates, the ball is an ellipsoid, shorter in the directions of the lower ones.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        curvature: Matrix = "hessian",
        share: float = 0.25,
        growth: float = 1.2,
        accept: float = 1e-4,
        forcing: float = 0.5,
        limit: int = 100,
    ) -> None:
        require("accept", accept, 0 <= accept < BAD, "0 or more and below 1/4")
        require("share", share, 0 < share <= 1, "above 0 and at most 1")
        require("growth", growth, growth >= 1, "1 or more")
        super().__init__(
            params,
            lr=lr,
            curvature=curvature,
            forcing=forcing,
            limit=limit,
            accept=accept,
            share=share,
            growth=growth,
        )

    def first_radius(self, size: float) -> float:
        """The norm of the first gradient."""
        return size

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """As the trust region's, on the first rows of an order that is the same at every step."""
        group = self.param_groups[0]
        share = self.memory.get("share", group["share"])
        loss = self.attempt(asked.part(share, nested=True), position)
        self.memory["share"] = min(1.0, share * group["growth"])
        return loss


@method(
    row="D2",
    reference="Steihaug 1983; Nocedal and Wright 2006, algorithms 4.1 and 7.2",
    formula="s = argmin g.s + s.B s/2 over |s| <= radius, by truncated CG; x <- x + s if F falls by accept or more of what "
    "the model says; radius/4 or 2 radius by the ratio",
    note="At a saddle itself the gradient is zero and no method that starts from it moves; next to it the negative curvature is "
    "found and followed.",
)
def trust_region(
    params: Params,
    *,
    lr: Positive = 1.0,
    curvature: Matrix = "hessian",
    accept: BelowAQuarter = 1e-4,
    forcing: Fraction = 0.5,
    limit: Count = 100,
) -> Optimizer:
    """A quadratic model of the loss, trusted within a ball that adapts to how well it predicts.

    A step costs two gradients, two for each iteration of conjugate gradients, and a loss. It remembers one number, the
    radius. Unlike Newton's method with a line search it makes use of negative curvature, and so leaves saddles quickly.

    Args:
        params: parameters or groups; where their rates differ, a group with a lower one moves less.
        lr: the first radius. All later ones are its multiples, so that a schedule acts on them. Default 1.
        curvature: B: "hessian", or "gauss_newton", for which ``step`` must be given the network's outputs
            (:class:`descend.optim.Rows`). Default "hessian".
        accept: the least ratio of the loss's decrease to the model's with which a step is taken, below 1/4. Default 1e-4.
        forcing: conjugate gradients end at a residual of min(forcing, √‖g‖) ‖g‖. Default 0.5.
        limit: on their iterations. Default 100.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure, or with one whose loss has no graph.

    >>> w = torch.tensor([0.0, 1e-3], requires_grad=True)  # next to the saddle of x² + y⁴/4 − y²/2
    >>> optimizer = trust_region([w])
    >>> for _ in range(8):
    ...     loss = optimizer.step(lambda: w[0] ** 2 + w[1] ** 4 / 4 - w[1] ** 2 / 2)
    >>> round(w[1].item(), 3)
    1.0
    """
    settings = {"lr": lr, "curvature": curvature, "accept": accept, "forcing": forcing, "limit": limit}
    return build(TrustRegion, params, settings)


@method(
    row="D14",
    reference="Chauhan, Sharma and Dahiya 2018, algorithm 1",
    formula="as trust_region, with loss, gradient and curvature of the first rows of a fixed order, growing in number",
    note="Conjugate gradients leave at negative curvature along it, to the surface of the ball; the authors' code, made for "
    "convex losses, would step uphill. The radius follows Nocedal and Wright's rule, within the intervals that the paper allows. "
    "The training loss that a run records is the sample's until it is all rows.",
)
def stron(
    params: Params,
    *,
    lr: Positive = 1.0,
    curvature: Matrix = "hessian",
    share: Portion = 0.25,
    growth: AtLeastOne = 1.2,
    accept: BelowAQuarter = 1e-4,
    forcing: Fraction = 0.5,
    limit: Count = 100,
) -> Optimizer:
    """A trust region on a sample of the rows that grows until it is all of them.

    Far from the minimum few rows show the way, and a step on them costs a share of one on all. All of a step is computed on the
    sample: loss, gradient, curvature, and the loss at the trial point. A larger sample holds the smaller ones. Once it holds all
    rows, after log(1/share)/log(growth) steps, the loss falls with every step that is taken and the method is
    :func:`trust_region`. It remembers two numbers, the radius and the share.

    Args:
        params: parameters or groups; where their rates differ, a group with a lower one moves less.
        lr: factor of all radii; the first is this times the norm of the first gradient. Default 1.
        curvature: B: "hessian", or "gauss_newton". Default "hessian".
        share: of the rows in the first sample; below 1, ``step`` must be given an objective that has parts
            (:class:`descend.optim.Rows`, whose rows should be in no particular order). Default 0.25.
        growth: factor of the share from step to step, until it is 1. Default 1.2.
        accept: the least ratio of the loss's decrease to the model's with which a step is taken, below 1/4. Default 1e-4.
        forcing: conjugate gradients end at a residual of min(forcing, √‖g‖) ‖g‖; the paper has 0.1. Default 0.5.
        limit: on their iterations. Default 100.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure, or with one that has no parts.

    >>> from descend.optim import Rows
    >>> model, x = torch.nn.Linear(1, 1), torch.linspace(-1, 1, 50)[torch.randperm(50), None]
    >>> rows = Rows(model, torch.nn.functional.mse_loss, x, 3 * x + 1)
    >>> optimizer = stron(model.parameters(), growth=2.0)
    >>> for _ in range(15):
    ...     loss = optimizer.step(rows)
    >>> round(model.weight.item(), 3), round(model.bias.item(), 3)
    (3.0, 1.0)
    """
    settings = {
        "lr": lr,
        "curvature": curvature,
        "share": share,
        "growth": growth,
        "accept": accept,
        "forcing": forcing,
        "limit": limit,
    }
    return build(STRON, params, settings)
