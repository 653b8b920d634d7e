"""TRish: a trust-region-like method for mini-batches that accepts every step, with a radius determined by the gradient norm.

On a mini-batch neither the loss nor its decrease is known accurately enough to judge a step. The second-order TRish
("trust-region-ish", Curtis and Shi 2019) does not evaluate them: with g the gradient of a batch and B a curvature of it, the
step s minimizes g·s + s·Bs/2 within a ball of radius

=========================== ==========
‖g‖                         radius
=========================== ==========
below 1/γ₁                  γ₁ α ‖g‖
from 1/γ₁ to 1/γ₂           α
above 1/γ₂                  γ₂ α ‖g‖
=========================== ==========

with γ₁ > γ₂ > 0, continuous in ‖g‖. In the middle range the length of the step does not depend on that of the gradient, so that
a badly scaled loss does no harm; at both ends it is proportional to the gradient norm, like a gradient step. With steps of
constant length α the loss could increase in expectation, since the norm of a noisy gradient indicates how reliable it is.
"""

from __future__ import annotations

from typing import Any, final

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations
from descend.optim.truncated_newton import CurvatureKind, TruncatedNewton
from descend.optim.vector_step import Position
from descend.param_types import Count, Fraction, Positive

__all__ = ["TRish", "radius_for", "trish"]


def radius_for(norm: float, alpha: float, gamma1: float, gamma2: float) -> float:
    """Return the radius for a gradient norm.

    >>> [radius_for(norm, 0.1, 4.0, 0.5) for norm in (0.125, 0.25, 1.0, 2.0, 4.0)]
    [0.05, 0.1, 0.1, 0.1, 0.2]
    """
    return alpha * max(min(gamma1 * norm, 1.0), gamma2 * norm)


@method(
    row="D13",
    reference="Curtis and Shi 2019, algorithm 1",
    formula="s = argmin g.s + s.B s/2 over |s| <= alpha max(min(gamma1 |g|, 1), gamma2 |g|), by truncated CG; x <- x + s",
    note="With B = 0 it is the first-order TRish of Curtis, Scheinberg and Shi 2019. The gammas are in units of 1/|g|: "
    "a loss in other units needs others.",
)
@final
class TRish(TruncatedNewton):
    """TRish: a second-order method for mini-batches whose steps are bounded by the gradient norm and always accepted.

    A step costs two gradients and two more for each iteration of conjugate gradients. The loss is not evaluated at the trial
    point, and the method has no state.

    The settings apply to the step as a whole, and those of the first parameter group are used. If the learning rates of the
    groups differ, α is the largest, and the ball is an ellipsoid, shorter in the directions of the lower ones.

    Args:
        params: parameters or groups.
        lr: α, the radius for gradients of medium norm. Default 0.1.
        curvature: B: "hessian", or "gauss_newton", for which ``step`` needs the network's outputs
            (:class:`descend.optim.Rows`). Default "hessian".
        gamma1: γ₁; below the norm 1/γ₁ the radius is γ₁ α ‖g‖. Default 4.
        gamma2: γ₂, below γ₁; above the norm 1/γ₂ the radius is γ₂ α ‖g‖. Default 0.5.
        cg_tolerance: conjugate gradients end at a residual of min(cg_tolerance, √‖g‖) ‖g‖. Default 0.5.
        cg_max_iter: maximum number of conjugate gradient iterations. Default 5.

    Raises:
        UserError: a setting is outside its domain; ``step`` has no closure, or one that returns a loss without its graph.

    >>> import torch
    >>> w = torch.tensor([3.0, 4.0], requires_grad=True)
    >>> _ = TRish([w], lr=0.5, gamma1=1.0, gamma2=0.1).step(lambda: w.norm() * 2)  # ‖g‖ = 2: a step of length 1/2 at most
    >>> round(w.norm().item(), 4)
    4.5
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.1,
        *,
        curvature: CurvatureKind = "hessian",
        gamma1: Positive = 4.0,
        gamma2: Positive = 0.5,
        cg_tolerance: Fraction = 0.5,
        cg_max_iter: Count = 5,
    ) -> None:
        super().__init__(params, locals())
        if not gamma1 > gamma2:
            raise UserError(f"{self.name}: gamma1: expected a number above gamma2 = {gamma2}, got {gamma1}")

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Take a step within the ball. A step that is not finite is not taken."""
        gradient, curvature = self.scaled_gradient(objective), self.curvature(objective)
        if gradient.permits_no_step:
            return gradient.loss
        group = self.param_groups[0]
        radius = radius_for(gradient.norm, gradient.lr, group["gamma1"], group["gamma2"])
        solution = self.solve(gradient.in_y(curvature), gradient, radius=radius)
        if solution.decrease > 0.0:
            position.move(gradient.in_parameters(solution.step))
        return gradient.loss


trish = TRish
