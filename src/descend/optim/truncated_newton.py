"""What the methods with a quadratic model of the loss have in common: m(s) = g·s + s·Bs/2, with B a curvature of F at x.

B is the Hessian, or the Gauss-Newton matrix (:mod:`descend.linalg.operators`). Near a minimum the first gives Newton's rate
of convergence. The second is positive semidefinite wherever the loss is convex in the outputs, as most losses are, so that
its model has a minimum; it is the Hessian but for a term that vanishes with the
residuals, and needs the network's outputs.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from descend.linalg import Solution, conjugate_gradient
from descend.optim.base import Params
from descend.optim.evaluation import Curvature, Evaluations, Need
from descend.optim.vector_step import VectorStep

__all__ = ["CurvedStep", "Matrix", "Slope", "needs_of", "require"]

Matrix = Literal["hessian", "gauss_newton"]
"""Which curvature the model of the loss has."""


class Slope(NamedTuple):
    """The gradient as a step sees it.

    With D the groups' rates as shares of the largest, steps are taken in the variables y of x = D^½ y: without curvature
    each group moves in proportion to its rate. Where all rates are the same y is x.

    Args:
        loss: F(x), as the closure returned it.
        vector: D^½ g, (n,).
        size: its norm.
        rate: the largest rate.
        scale: D^½, (n,); None where it is 1.
    """

    loss: Any
    vector: Tensor
    size: float
    rate: float
    scale: Tensor | None

    @property
    def leads_nowhere(self) -> bool:
        """Whether no step is to be taken: all rates are zero, or the gradient is not finite."""
        return not (self.rate > 0 and math.isfinite(self.size))

    def in_parameters(self, step: Tensor) -> Tensor:
        """A step of y as one of x, (n,)."""
        return step if self.scale is None else self.scale * step

    def in_y(self, curvature: Curvature) -> Callable[[Tensor], Tensor]:
        """The curvature by y: D^½ B D^½."""
        scale = self.scale
        return curvature if scale is None else lambda vector: scale * curvature(scale * vector)


class CurvedStep(VectorStep, ABC):
    """A step found by conjugate gradients on a quadratic model of the loss.

    Args:
        params: parameters or groups.
        lr: at least 0.
        curvature: "hessian" or "gauss_newton".
        forcing: conjugate gradients end at the latest when the model's gradient is this share of g; in [0, 1).
        limit: on their iterations, at least 1.
        settings: further ones, of the subclass.
    """

    def __init__(
        self,
        params: Params,
        *,
        lr: float,
        curvature: Matrix,
        forcing: float,
        limit: int,
        **settings: Any,
    ) -> None:
        require("lr", lr, lr >= 0, "0 or more")
        require("curvature", curvature, curvature in ("hessian", "gauss_newton"), "hessian or gauss_newton")
        require("forcing", forcing, 0 <= forcing < 1, "0 or more and below 1")
        require("limit", limit, limit >= 1, "1 or more")
        common = {"lr": lr, "curvature": curvature, "forcing": forcing, "limit": limit}
        super().__init__(params, {**common, **settings})

    @property
    def needs(self) -> frozenset[Need]:
        """What the curvature needs, and parts of the rows where there is a share of them."""
        return needs_of(self.param_groups[0])

    def curvature(self, asked: Evaluations) -> Curvature:
        """The curvature that was chosen, where the parameters are now."""
        return asked.hessian() if self.param_groups[0]["curvature"] == "hessian" else asked.gauss_newton()

    def slope(self, asked: Evaluations) -> Slope:
        """The gradient, and what the rates of the groups make of it. Waits for the device."""
        gradient = asked.gradient()
        rate, scale = self.metric()
        vector = gradient.vector if scale is None else scale * gradient.vector
        return Slope(gradient.loss, vector, float(torch.linalg.vector_norm(vector)), float(rate), scale)

    def solve(self, product: Callable[[Tensor], Tensor], slope: Slope, **ball: float) -> Solution:
        """Lower the model by conjugate gradients, to a residual of min(forcing, √‖g‖) ‖g‖.

        The shrinking share makes the steps Newton's in the end: the error of an iterate is then of order 3/2 of the one
        before (Dembo, Eisenstat and Steihaug 1982; Nocedal and Wright 2006, theorem 7.2).

        Args:
            product: multiplies B with a vector.
            slope: g.
            ball: ``radius``, where there is one.
        """
        group = self.param_groups[0]
        tolerance = min(group["forcing"], math.sqrt(slope.size))
        return conjugate_gradient(product, slope.vector, tolerance=tolerance, max_iter=group["limit"], **ball)


def needs_of(settings: Mapping[str, Any]) -> frozenset[Need]:
    """What a ``curvature`` and a ``share`` of the rows ask of the objective.

    >>> sorted(needs_of({"curvature": "gauss_newton", "share": 0.5}))
    ['outputs', 'part']
    """
    found: set[Need] = {"graph" if settings["curvature"] == "hessian" else "outputs"}
    if settings.get("share", 1.0) < 1.0:
        found.add("part")
    return frozenset(found)


def require(name: str, value: Any, holds: bool, what: str) -> None:
    """Complain of a setting outside its domain.

    >>> require("lr", -1, False, "0 or more")
    Traceback (most recent call last):
    ValueError: lr must be 0 or more; found -1
    """
    if not holds:
        raise ValueError(f"{name} must be {what}; found {value}")
