"""The base class of truncated Newton methods: conjugate gradients on a quadratic model of the loss.

The model is m(s) = g·s + s·Bs/2, with g the gradient and B a curvature of F at x: the Hessian or the Gauss-Newton matrix
(:mod:`descend.linalg.operators`). Near a minimum the Hessian yields Newton's rate of convergence. The Gauss-Newton matrix is
positive semidefinite if the loss is convex in the outputs, as most losses are, so its model is bounded below along directions
of curvature; it differs from the Hessian by a term that vanishes with the residuals, and requires the network's outputs.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from descend.linalg import Solution, conjugate_gradient
from descend.optim.evaluation import Curvature, Evaluations, Need
from descend.optim.vector_step import VectorStep

__all__ = ["CurvatureKind", "ScaledGradient", "TruncatedNewton", "needs_of"]

CurvatureKind = Literal["hessian", "gauss_newton"]
"""The curvature matrix of the quadratic model."""


class ScaledGradient(NamedTuple):
    """The gradient in variables scaled by the learning rates of the parameter groups.

    With D the learning rates relative to the largest one, steps are taken in the variables y of x = D^½ y, so that without
    curvature each group moves in proportion to its learning rate. If all learning rates are equal, y is x.

    Args:
        loss: F(x), as the closure returned it.
        vector: D^½ g, (n,).
        norm: its norm.
        lr: the largest learning rate.
        scale: D^½, (n,); None if it is the identity.
    """

    loss: Any
    vector: Tensor
    norm: float
    lr: float
    scale: Tensor | None

    @property
    def permits_no_step(self) -> bool:
        """Whether all learning rates are zero, or the gradient is not finite."""
        return not (self.lr > 0 and math.isfinite(self.norm))

    def in_parameters(self, step: Tensor) -> Tensor:
        """Convert a step in y to a step in x, (n,)."""
        return step if self.scale is None else self.scale * step

    def in_y(self, curvature: Curvature) -> Callable[[Tensor], Tensor]:
        """Return the curvature in y, D^½ B D^½."""
        scale = self.scale
        return curvature if scale is None else lambda vector: scale * curvature(scale * vector)


class TruncatedNewton(VectorStep, ABC):
    """An optimizer whose step is computed by conjugate gradients on a quadratic model of the loss.

    A subclass has the settings ``lr``, ``curvature``, ``cg_tolerance`` and ``cg_max_iter``, and possibly ``sample_fraction``.
    """

    @property
    def needs(self) -> frozenset[Need]:
        """What the curvature requires of the objective, and subsets of the rows if ``sample_fraction`` is below 1."""
        return needs_of(self.param_groups[0])

    def curvature(self, objective: Evaluations) -> Curvature:
        """Evaluate the selected curvature at the current parameters."""
        return (
            objective.hessian()
            if self.param_groups[0]["curvature"] == "hessian"
            else objective.gauss_newton()
        )

    def scaled_gradient(self, objective: Evaluations) -> ScaledGradient:
        """Evaluate the gradient at the current parameters. Synchronizes with the device."""
        gradient = objective.gradient()
        lr, scale = self.metric()
        vector = gradient.vector if scale is None else scale * gradient.vector
        return ScaledGradient(
            gradient.loss, vector, float(torch.linalg.vector_norm(vector)), float(lr), scale
        )

    def solve(
        self, product: Callable[[Tensor], Tensor], gradient: ScaledGradient, *, radius: float = math.inf
    ) -> Solution:
        """Minimize the model by conjugate gradients, up to a residual of min(cg_tolerance, √‖g‖) ‖g‖.

        Since the relative tolerance vanishes with the gradient, convergence is superlinear: the error of an iterate is of order
        3/2 of the previous one (Dembo, Eisenstat and Steihaug 1982; Nocedal and Wright 2006, theorem 7.2).

        Args:
            product: function that multiplies B with a vector.
            gradient: g.
            radius: radius of the trust region. Default infinite.
        """
        group = self.param_groups[0]
        tolerance = min(group["cg_tolerance"], math.sqrt(gradient.norm))
        return conjugate_gradient(
            product, gradient.vector, radius=radius, tolerance=tolerance, max_iter=group["cg_max_iter"]
        )


def needs_of(settings: Mapping[str, Any]) -> frozenset[Need]:
    """Return what the settings ``curvature`` and ``sample_fraction`` require of the objective.

    >>> sorted(needs_of({"curvature": "gauss_newton", "sample_fraction": 0.5}))
    ['outputs', 'part']
    """
    needs: set[Need] = {"graph" if settings["curvature"] == "hessian" else "outputs"}
    if settings.get("sample_fraction", 1.0) < 1.0:
        needs.add("part")
    return frozenset(needs)
