"""Constraints on weights that are satisfied after every step, and general constraints on a model.

==========  ============================================  ================================================
name        set                                           method
==========  ============================================  ================================================
norm_ball   ‖w‖ ≤ r, for each unit                        projection after each step
simplex     w ≥ 0, Σ w = s, for each unit                 projection after each step
binary      {-s, s}                                       signs of latent weights
orthogonal  orthonormal rows or columns                   matrix exponential, Cayley transform, or a penalty
inequality  c(w) ≤ 0 for a function of the model          augmented Lagrangian
equality    c(w) = 0 for a function of the model          augmented Lagrangian
==========  ============================================  ================================================

In a custom training loop:

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
>>> constrained = constrain(model, orthogonal(), "0")       # before the optimizer is created
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
>>> handle = constrained.attach(optimizer)                  # keeps the constraint at each step
>>> model(torch.ones(2, 8)).sum().backward(); optimizer.step()
>>> W = model[0].weight
>>> torch.allclose(W @ W.T, torch.eye(4), atol=1e-5)
True

:class:`AugmentedLagrangian` enforces conditions on any differentiable function of a model; :func:`minimize` solves small
deterministic problems with conditions to high accuracy; :func:`kkt` computes how far a point is from a solution.
"""

from collections.abc import Callable, Mapping

from descend.constraints._binary import binary
from descend.constraints._orthogonal import orthogonal
from descend.constraints.base import (
    ConstrainedWeight,
    ConstrainedWeights,
    Constraint,
    ConstraintHandle,
    constrain,
    remove_parametrizations,
)
from descend.constraints.conditions import KKT, Condition, equality, inequality, kkt
from descend.constraints.lagrangian import AugmentedLagrangian
from descend.constraints.projections import norm_ball, project_to_ball, project_to_simplex, simplex
from descend.constraints.sqp import Solution, minimize

__all__ = [
    "CONDITIONS",
    "CONSTRAINTS",
    "KKT",
    "AugmentedLagrangian",
    "Condition",
    "ConstrainedWeight",
    "ConstrainedWeights",
    "Constraint",
    "ConstraintHandle",
    "Solution",
    "binary",
    "constrain",
    "equality",
    "inequality",
    "kkt",
    "minimize",
    "norm_ball",
    "orthogonal",
    "project_to_ball",
    "project_to_simplex",
    "remove_parametrizations",
    "simplex",
]

CONSTRAINTS: Mapping[str, Callable[..., Constraint]] = {
    "orthogonal": orthogonal,
    "norm_ball": norm_ball,
    "simplex": simplex,
    "binary": binary,
}

CONDITIONS: Mapping[str, Callable[..., Condition]] = {"inequality": inequality, "equality": equality}
