"""Newton's method by conjugate gradients, with the curvature of all rows or of a random subset.

At x, with gradient g and curvature B, conjugate gradients minimize g·p + p·Bp/2 until ‖Bp + g‖ ≤ η ‖g‖. At a direction of
negative curvature they return the current iterate, in the first iteration −g. So p is a descent direction, and the step is the
first t of t₀, ρ t₀, ρ² t₀, … with

    F(x + t p) ≤ F(x) + c₁ t g·p.

Near a minimum t = 1 is accepted, and the rate of convergence depends on B. With all rows and η → 0 convergence is superlinear;
with a subset of the rows it is linear, with a factor that decreases with the size of the subset (Roosta-Khorasani and Mahoney
2018). With η = 0 the steps are invariant to an invertible linear change of variables, so the condition number of the problem
only affects the number of conjugate gradient iterations.
"""

from __future__ import annotations

from typing import Any, final

import torch

from descend.cards import method
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations
from descend.optim.line_search import armijo
from descend.optim.truncated_newton import CurvatureKind, TruncatedNewton
from descend.optim.vector_step import Position
from descend.param_types import AtLeastOne, Count, Fraction, NonNegative, Portion, Positive, Share

__all__ = ["Newton", "SubsampledNewton", "newton", "subsampled_newton"]


def newton_step(
    optimizer: TruncatedNewton,
    objective: Evaluations,
    position: Position,
    *,
    sample_fraction: float = 1.0,
    damping: float = 0.0,
) -> Any:
    """X ← x + t p, with (B + damping ‖g‖ I) p ≈ −g, B the curvature of a sample of the rows, and t from backtracking."""
    gradient = optimizer.scaled_gradient(objective)
    curvature = optimizer.curvature(objective.part(sample_fraction))
    if gradient.permits_no_step:
        return gradient.loss
    undamped, shift = gradient.in_y(curvature), damping * gradient.norm
    product = (lambda vector: undamped(vector) + shift * vector) if shift else undamped
    solution = optimizer.solve(product, gradient)
    group, step = optimizer.param_groups[0], gradient.in_parameters(solution.step)

    def value_at(t: float) -> float:
        position.move(step, t)
        return objective.value()

    point = armijo(
        value_at,
        float(gradient.loss),
        float(torch.dot(solution.step, gradient.vector)),  # g·p, as p is D^½ times the solution
        initial=gradient.lr,
        c1=group["c1"],
        rho=group["rho"],
        shortest=torch.finfo(step.dtype).eps ** 2,
    )
    if point is None:
        position.back()
    return gradient.loss


@method(
    row="D2",
    reference="Dembo, Eisenstat and Steihaug 1982; Nocedal and Wright 2006, algorithm 7.1",
    formula="x <- x + t p, |B p + g| <= min(cg_tolerance, sqrt|g|) |g|, the first t of lr, rho lr, rho^2 lr, ... with "
    "F(x + t p) <= F(x) + c1 t g.p",
    note="Conjugate gradients end at a direction of negative curvature. A dense solve costs O(n^3); with products alone a step "
    "costs two gradients for each iteration.",
)
@final
class Newton(TruncatedNewton):
    """Newton's method with backtracking; the linear system is solved by conjugate gradients.

    The Hessian is not formed: an iteration of conjugate gradients multiplies it with a vector, at the cost of two gradients. A
    step costs two gradients, two more for each iteration, and one loss for each t that is tried. The method has no state, and
    within a step it stores a few vectors of n numbers.

    It is suitable for smooth losses of all rows if accuracy is required: near a minimum the number of correct digits increases
    by half or more with each step, however ill-conditioned the loss is. For networks, ``curvature="gauss_newton"`` is
    preferable: far from a minimum the Hessian has directions of negative curvature, at which conjugate gradients end early.

    The settings apply to the step as a whole, and those of the first parameter group are used. If the learning rates of the
    groups differ, conjugate gradients start in the direction −D g, with D the learning rates relative to the largest. If the
    system is solved exactly, the step is Newton's for the groups with a learning rate above zero, since Newton's step is
    invariant to the scale of variables; groups with learning rate 0 do not move.

    Args:
        params: parameters or groups.
        lr: t₀, the first t that is tried; 1 is Newton's step. Default 1.
        curvature: B: "hessian", or "gauss_newton", for which ``step`` needs the network's outputs
            (:class:`descend.optim.Rows`). Default "hessian".
        cg_tolerance: conjugate gradients end at a residual of min(cg_tolerance, √‖g‖) ‖g‖; 0 solves exactly. Default 0.5.
        cg_max_iter: maximum number of conjugate gradient iterations. Default 100.
        c1: minimum decrease of the loss, relative to the decrease predicted by the gradient. Default 1e-4.
        rho: ρ, the factor from one t to the next. Default 0.5.

    Raises:
        UserError: a setting is outside its domain; ``step`` has no closure, or one that returns a loss without its graph.

    >>> w = torch.tensor([3.0, -2.0], requires_grad=True)
    >>> loss = Newton([w], cg_tolerance=0.0).step(lambda: (w * w * torch.tensor([1.0, 100.0])).sum())
    >>> loss.item(), [abs(round(each, 4)) for each in w.tolist()]  # a quadratic is minimized in one step
    (409.0, [0.0, 0.0])
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        *,
        curvature: CurvatureKind = "hessian",
        cg_tolerance: Fraction = 0.5,
        cg_max_iter: Count = 100,
        c1: Share = 1e-4,
        rho: Share = 0.5,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Take a step with the curvature of all rows."""
        return newton_step(self, objective, position)


@method(
    row="D12",
    reference="Roosta-Khorasani and Mahoney 2018, algorithm 3",
    formula="as newton, with B = (curvature of a random sample of the rows) + damping |g| I, "
    "|B p + g| <= min(cg_tolerance, sqrt|g|) |g|",
    note="Gradient and losses are those of all rows of the step; only the curvature is that of a sample, a new one at each step. "
    "In the paper the damping is zero or constant.",
)
@final
class SubsampledNewton(TruncatedNewton):
    """Subsampled Newton: Newton's method with the curvature of a random sample of the rows.

    Newton's method spends most of its time on products with the curvature, and a mean over few rows is nearly as accurate as
    one over all rows: if the curvature B of the sample satisfies (1 − ε) H ≤ B ≤ (1 + ε) H, the error decreases by a factor of
    about ε + η with each step near the minimum. With a growing sample ε vanishes, and convergence is superlinear.

    If there are more parameters than rows in the sample, its curvature is singular, and the gradient of all rows has components
    in its null space. Therefore damping ‖g‖ is added to the diagonal: if the curvature is positive semidefinite, no p is longer
    than 1/damping, and the damping vanishes near the minimum. With ``sample_fraction=1`` and ``damping=0`` the method is
    :class:`Newton`.

    A step costs a gradient and a loss for each t that is tried, on all rows, and a gradient and two more for each iteration of
    conjugate gradients, on the sample. The state is one number, the current fraction. The settings apply to the step as a whole,
    and those of the first parameter group are used.

    Args:
        params: parameters or groups; different learning rates act as for :class:`Newton`.
        lr: t₀, the first t that is tried. Default 1.
        curvature: B: "hessian", or "gauss_newton". Default "hessian".
        sample_fraction: fraction of the rows in the sample; below 1, ``step`` needs an objective that can evaluate subsets
            of the rows (:class:`descend.optim.Rows`). Default 0.1.
        sample_growth: factor of the fraction from step to step, until it is 1. Default 1.
        damping: the multiple of ‖g‖ that is added to the diagonal of the curvature; 0 makes the steps invariant to linear changes
            of variables, and is suitable for models of few parameters. Default 0.1.
        cg_tolerance: η; conjugate gradients end at a residual of min(η, √‖g‖) ‖g‖. Default 0.1.
        cg_max_iter: maximum number of conjugate gradient iterations. Default 100.
        c1: minimum decrease of the loss, relative to the decrease predicted by the gradient. Default 1e-4.
        rho: ρ, the factor from one t to the next. Default 0.5.

    Raises:
        UserError: a setting is outside its domain; ``step`` has no closure, or one that cannot evaluate subsets of the rows.

    >>> from descend.optim import Rows
    >>> model, x = torch.nn.Linear(1, 1), torch.linspace(-1, 1, 50)[:, None]
    >>> rows = Rows(model, torch.nn.functional.mse_loss, x, 3 * x + 1)
    >>> optimizer = SubsampledNewton(model.parameters(), sample_fraction=0.5)
    >>> for _ in range(10):
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
        sample_fraction: Portion = 0.1,
        sample_growth: AtLeastOne = 1.0,
        damping: NonNegative = 0.1,
        cg_tolerance: Fraction = 0.1,
        cg_max_iter: Count = 100,
        c1: Share = 1e-4,
        rho: Share = 0.5,
    ) -> None:
        super().__init__(params, locals())

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Take a step with the curvature of a new sample of the rows."""
        group = self.param_groups[0]
        fraction = self.memory.get("share", group["sample_fraction"])
        loss = newton_step(self, objective, position, sample_fraction=fraction, damping=group["damping"])
        if group["sample_growth"] > 1:
            self.memory["share"] = min(1.0, fraction * group["sample_growth"])
        return loss


newton = Newton
subsampled_newton = SubsampledNewton
