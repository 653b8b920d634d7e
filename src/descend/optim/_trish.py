"""A trust region without trust: the radius follows the norm of the stochastic gradient, and every step is taken.

On a batch neither the loss nor its decrease is known well enough to judge a step by. The second-order TRish ("trust-region-ish",
Curtis and Shi 2019) never asks: with g a batch's gradient and B a curvature of it, s lowers g·s + s·Bs/2 within a ball whose
radius is

=========================== ==========
‖g‖                         radius
=========================== ==========
below 1/γ₁                  γ₁ α ‖g‖
from 1/γ₁ to 1/γ₂           α
above 1/γ₂                  γ₂ α ‖g‖
=========================== ==========

with γ₁ > γ₂ > 0, continuous in ‖g‖. In the middle the step's length does not depend on the gradient's, so that a badly scaled
loss does no harm; at both ends it grows with it as a gradient step does. Steps of length α throughout could make the loss grow on
average, as the norm of a noisy gradient says which gradients to believe.
"""

from __future__ import annotations

from typing import Any, final

from torch.optim import Optimizer

from descend.cards import method
from descend.optim.base import Params
from descend.optim.building import build
from descend.optim.curved import CurvedStep, Matrix, require
from descend.optim.evaluation import Evaluations
from descend.optim.vector_step import Position
from descend.param_types import Count, Fraction, Positive

__all__ = ["TRish", "radius_for", "trish"]


def radius_for(size: float, alpha: float, gamma1: float, gamma2: float) -> float:
    """The radius for a gradient of a norm.

    >>> [radius_for(size, 0.1, 4.0, 0.5) for size in (0.125, 0.25, 1.0, 2.0, 4.0)]
    [0.05, 0.1, 0.1, 0.1, 0.2]
    """
    return alpha * max(min(gamma1 * size, 1.0), gamma2 * size)


@final
class TRish(CurvedStep):
    """A step within a ball whose radius follows the gradient's norm; see :func:`trish`.

    It has no state. The settings belong to the step as a whole: those of the first group count. Where groups have different
    rates, α is the largest, and the ball an ellipsoid, shorter in the directions of the lower ones.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 0.1,
        curvature: Matrix = "hessian",
        gamma1: float = 4.0,
        gamma2: float = 0.5,
        forcing: float = 0.5,
        limit: int = 5,
    ) -> None:
        for name, value in (("gamma1", gamma1), ("gamma2", gamma2)):
            require(name, value, value > 0, "above 0")
        require("gamma1", gamma1, gamma1 > gamma2, f"above gamma2, which is {gamma2}")
        settings = {"gamma1": gamma1, "gamma2": gamma2}
        super().__init__(params, lr=lr, curvature=curvature, forcing=forcing, limit=limit, **settings)

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """One gradient, and one curvature with a product for each iteration. A step that is not finite is not taken."""
        slope, curvature = self.slope(asked), self.curvature(asked)
        if slope.leads_nowhere:
            return slope.loss
        group = self.param_groups[0]
        radius = radius_for(slope.size, slope.rate, group["gamma1"], group["gamma2"])
        solution = self.solve(slope.in_y(curvature), slope, radius=radius)
        if solution.decrease > 0.0:
            position.move(slope.in_parameters(solution.step))
        return slope.loss


@method(
    row="D13",
    reference="Curtis and Shi 2019, algorithm 1",
    formula="s = argmin g.s + s.B s/2 over |s| <= alpha max(min(gamma1 |g|, 1), gamma2 |g|), by truncated CG; x <- x + s",
    note="With B = 0 it is the first-order TRish of Curtis, Scheinberg and Shi 2019. The gammas are in units of 1/|g|: "
    "a loss in other units needs others.",
)
def trish(
    params: Params,
    *,
    lr: Positive = 0.1,
    curvature: Matrix = "hessian",
    gamma1: Positive = 4.0,
    gamma2: Positive = 0.5,
    forcing: Fraction = 0.5,
    limit: Count = 5,
) -> Optimizer:
    """A second-order method for batches: steps on a quadratic model, bounded by the gradient's norm, all of them taken.

    A step costs two gradients and two for each iteration of conjugate gradients. No loss is computed to judge it, and
    nothing is remembered.

    Args:
        params: parameters or groups; where their rates differ, a group with a lower one moves less.
        lr: α, the radius for gradients of middling norm. Default 0.1.
        curvature: B: "hessian", or "gauss_newton", for which ``step`` must be given the network's outputs
            (:class:`descend.optim.Rows`). Default "hessian".
        gamma1: γ₁: below the norm 1/γ₁ steps are as short as γ₁ α ‖g‖. Default 4.
        gamma2: γ₂, below γ₁: above the norm 1/γ₂ they may be as long as γ₂ α ‖g‖. Default 0.5.
        forcing: conjugate gradients end at a residual of min(forcing, √‖g‖) ‖g‖. Default 0.5.
        limit: on their iterations. Default 5.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure, or with one whose loss has no graph.

    >>> import torch
    >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> _ = trish([w], lr=0.5, gamma1=1.0, gamma2=0.1).step(lambda: w.norm() * 2)  # ‖g‖ = 2: a step of length 1/2 at most
    >>> round(w.norm().item(), 4)
    4.5
    """
    settings = {
        "lr": lr,
        "curvature": curvature,
        "gamma1": gamma1,
        "gamma2": gamma2,
        "forcing": forcing,
        "limit": limit,
    }
    return build(TRish, params, settings)
