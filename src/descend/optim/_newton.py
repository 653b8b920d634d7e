"""Newton's method by conjugate gradients: with the curvature of all rows, or of some.

At x, with gradient g and curvature B, conjugate gradients lower g·p + p·Bp/2 until ‖Bp + g‖ ≤ η ‖g‖; where they
meet a direction of negative curvature, the iterate so far is taken, −g in the first iteration. So p points downhill, and
of the steps t = t₀, ρ t₀, ρ² t₀, … the first is taken that has

    F(x + t p) ≤ F(x) + c t g·p.

Near a minimum t = 1 passes, and what is left of the error depends on B: with all rows and η → 0 the errors fall superlinearly;
with a share of the rows each is at most a fraction of the one before, smaller as the share is larger
(Roosta-Khorasani and Mahoney 2018). Steps do not change with an invertible linear change of variables if η = 0: the
condition of the problem is felt by conjugate gradients alone.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch.optim import Optimizer

from descend.cards import method
from descend.optim.base import Params
from descend.optim.building import build
from descend.optim.curved import CurvedStep, Matrix, require
from descend.optim.evaluation import Evaluations
from descend.optim.line_search import armijo
from descend.optim.vector_step import Position
from descend.param_types import AtLeastOne, Count, Fraction, NonNegative, Portion, Positive, Share

__all__ = ["Newton", "SubsampledNewton", "newton", "subsampled_newton"]


@final
class Newton(CurvedStep):
    """x⁺ = x + t p with p from conjugate gradients on all rows, and t from backtracking; see :func:`newton`.

    It has no state. The settings belong to the step as a whole: those of the first group count. Where groups have different
    rates, conjugate gradients start in the direction −D g, with D the rates' shares of the largest; solved exactly, the
    step is Newton's in the groups whose rate is not zero, as Newton's does not depend on the scale of variables.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        curvature: Matrix = "hessian",
        forcing: float = 0.5,
        limit: int = 100,
        c: float = 1e-4,
        rho: float = 0.5,
    ) -> None:
        _check_search(c, rho)
        super().__init__(params, lr=lr, curvature=curvature, forcing=forcing, limit=limit, c=c, rho=rho)

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """One gradient, one curvature with a product for each iteration, and a loss for each t that is tried."""
        return _search(self, asked, position)


@final
class SubsampledNewton(CurvedStep):
    """Newton's method with the curvature of a share of the rows; see :func:`subsampled_newton`.

    Its state is one number, the share. The settings belong to the step as a whole: those of the first group count.
    """

    def __init__(
        self,
        params: Params,
        lr: float = 1.0,
        curvature: Matrix = "hessian",
        share: float = 0.1,
        growth: float = 1.0,
        damping: float = 0.1,
        theta: float = 0.1,
        limit: int = 100,
        c: float = 1e-4,
        rho: float = 0.5,
    ) -> None:
        _check_search(c, rho)
        require("share", share, 0 < share <= 1, "above 0 and at most 1")
        require("growth", growth, growth >= 1, "1 or more")
        require("damping", damping, damping >= 0, "0 or more")
        require("theta", theta, 0 <= theta < 1, "0 or more and below 1")
        super().__init__(
            params,
            lr=lr,
            curvature=curvature,
            forcing=theta,
            limit=limit,
            c=c,
            rho=rho,
            share=share,
            growth=growth,
            damping=damping,
        )

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """As Newton's, but for the curvature, which is that of rows drawn anew at each step."""
        group = self.param_groups[0]
        share = self.memory.get("share", group["share"])
        loss = _search(self, asked, position, share=share, damping=group["damping"])
        if group["growth"] > 1:
            self.memory["share"] = min(1.0, share * group["growth"])
        return loss


def _check_search(c: float, rho: float) -> None:
    for name, value in (("c", c), ("rho", rho)):
        require(name, value, 0 < value < 1, "above 0 and below 1")


def _search(
    optimizer: CurvedStep, asked: Evaluations, position: Position, *, share: float = 1.0, damping: float = 0.0
) -> Any:
    """The step along p: gradient and losses are of all rows, the curvature is of a share and damped."""
    slope, curvature = optimizer.slope(asked), optimizer.curvature(asked.part(share))
    if slope.leads_nowhere:
        return slope.loss
    curved, ridge = slope.in_y(curvature), damping * slope.size
    product = (lambda vector: curved(vector) + ridge * vector) if ridge else curved
    solution = optimizer.solve(product, slope)
    group, step = optimizer.param_groups[0], slope.in_parameters(solution.step)

    def value_at(t: float) -> float:
        position.move(step, t)
        return asked.value()

    # g·p, as p is D^½ times the solution.
    fall = float(torch.dot(solution.step, slope.vector))
    least = torch.finfo(step.dtype).eps ** 2
    found = armijo(
        value_at, float(slope.loss), fall, initial=slope.rate, c1=group["c"], rho=group["rho"], shortest=least
    )
    if found is None:
        position.back()
    return slope.loss


@method(
    row="D2",
    reference="Dembo, Eisenstat and Steihaug 1982; Nocedal and Wright 2006, algorithm 7.1",
    formula="x <- x + t p, |B p + g| <= min(forcing, sqrt|g|) |g|, the first t of lr, rho lr, rho^2 lr, ... with "
    "F(x + t p) <= F(x) + c t g.p",
    note="Conjugate gradients end at a direction of negative curvature. The lecture counts O(n^3) for a step; with "
    "products alone it is a few gradients' work for each iteration.",
)
def newton(
    params: Params,
    *,
    lr: Positive = 1.0,
    curvature: Matrix = "hessian",
    forcing: Fraction = 0.5,
    limit: Count = 100,
    c: Share = 1e-4,
    rho: Share = 0.5,
) -> Optimizer:
    """Newton's method, its system solved by conjugate gradients, with backtracking.

    The Hessian is never formed: an iteration of conjugate gradients multiplies it with a vector, at the cost of two
    gradients. A step costs two gradients, two for each iteration, and a loss for each t that is tried. It remembers nothing
    from step to step, and within it keeps a handful of vectors of n numbers.

    It is the method for smooth losses of all rows, where accuracy counts: near a minimum the number of right digits grows by
    half or more with each step, however ill-conditioned the loss. For a network ``curvature = "gauss_newton"`` is better:
    far from a minimum the Hessian has directions of negative curvature, which end conjugate gradients early.

    Args:
        params: parameters or groups; where their rates differ, conjugate gradients turn to one with a lower rate later, and a
            group of rate 0 stays.
        lr: t₀, the first t tried; 1 is Newton's step. Default 1.
        curvature: B: "hessian", or "gauss_newton", for which ``step`` must be given the network's outputs
            (:class:`descend.optim.Rows`). Default "hessian".
        forcing: conjugate gradients end at a residual of min(forcing, √‖g‖) ‖g‖; 0 solves exactly. Default 0.5.
        limit: on their iterations. Default 100.
        c: how much of the decrease that the slope promises is asked for. Default 1e-4.
        rho: ρ, the factor from one t to the next. Default 0.5.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure, or with one whose loss has no graph.

    >>> w = torch.tensor([3.0, -2.0], requires_grad=True)
    >>> loss = newton([w], forcing=0.0).step(lambda: (w * w * torch.tensor([1.0, 100.0])).sum())
    >>> loss.item(), [abs(round(each, 4)) for each in w.tolist()]  # a quadratic is minimised in one step
    (409.0, [0.0, 0.0])
    """
    settings = {"lr": lr, "curvature": curvature, "forcing": forcing, "limit": limit, "c": c, "rho": rho}
    return build(Newton, params, settings)


@method(
    row="D12",
    reference="Roosta-Khorasani and Mahoney 2018, algorithm 3",
    formula="as newton, with B = (curvature of a random share of the rows) + damping |g| I, "
    "|B p + g| <= min(theta, sqrt|g|) |g|",
    note="Gradient and losses are those of all rows of the step; only the curvature is of a sample, drawn anew at each step. "
    "The paper has no damping, or a constant one.",
)
def subsampled_newton(
    params: Params,
    *,
    lr: Positive = 1.0,
    curvature: Matrix = "hessian",
    share: Portion = 0.1,
    growth: AtLeastOne = 1.0,
    damping: NonNegative = 0.1,
    theta: Fraction = 0.1,
    limit: Count = 100,
    c: Share = 1e-4,
    rho: Share = 0.5,
) -> Optimizer:
    """Newton's method with the curvature of a random share of the rows.

    Products with the curvature are what Newton's method spends its time on, and a mean over few rows gives them nearly as well
    as one over all: if the sample's curvature B has (1 − ε) H ≤ B ≤ (1 + ε) H, the error shrinks by a factor of
    about ε + θ at each step near the minimum. A sample that grows makes ε vanish, and the errors fall superlinearly.

    With more parameters than rows in the sample its curvature is singular, and the gradient of all rows points where it sees
    nothing. So damping ‖g‖ is added to its diagonal: where the curvature is positive semidefinite no p is longer than
    1/damping, and near the minimum the damping vanishes. With a share of 1 and a damping of 0 it is :func:`newton`.

    A step costs a gradient and a loss for each t tried on all rows, and a gradient and two for each iteration of
    conjugate gradients on the sample. It remembers one number.

    Args:
        params: parameters or groups; where their rates differ, conjugate gradients turn to one with a lower rate later, and a
            group of rate 0 stays.
        lr: t₀, the first t tried. Default 1.
        curvature: B: "hessian", or "gauss_newton". Default "hessian".
        share: of the rows whose curvature is taken; below 1, ``step`` must be given an objective that has parts
            (:class:`descend.optim.Rows`). Default 0.1.
        growth: factor of the share from step to step, until it is 1. Default 1.
        damping: how much of ‖g‖ is added to the curvature's diagonal; 0 keeps steps the same under a linear change of variables,
            and is for models of few parameters. Default 0.1.
        theta: θ: conjugate gradients end at a residual of min(θ, √‖g‖) ‖g‖. Default 0.1.
        limit: on their iterations. Default 100.
        c: how much of the decrease that the slope promises is asked for. Default 1e-4.
        rho: ρ, the factor from one t to the next. Default 0.5.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure, or with one that has no parts.

    >>> from descend.optim import Rows
    >>> model, x = torch.nn.Linear(1, 1), torch.linspace(-1, 1, 50)[:, None]
    >>> rows = Rows(model, torch.nn.functional.mse_loss, x, 3 * x + 1)
    >>> optimizer = subsampled_newton(model.parameters(), share=0.5)
    >>> for _ in range(10):
    ...     loss = optimizer.step(rows)
    >>> round(model.weight.item(), 3), round(model.bias.item(), 3)
    (3.0, 1.0)
    """
    settings = {
        "lr": lr,
        "curvature": curvature,
        "share": share,
        "growth": growth,
        "damping": damping,
        "theta": theta,
        "limit": limit,
        "c": c,
        "rho": rho,
    }
    return build(SubsampledNewton, params, settings)
