"""Constraints on weights that hold after every step.

==========  ============================================  ================================================
name        the set                                       how it is kept
==========  ============================================  ================================================
norm_ball   ‖w‖ ≤ r, for each unit                        projection after each step
simplex     w ≥ 0, Σ w = s, for each unit                 projection after each step
binary      {-s, s}                                       sign of latent weights
orthogonal  orthonormal rows or columns                   matrix exponential, Cayley's transform, or a penalty
inequality  c(w) ≤ 0 for a function of the model          augmented Lagrangian
equality    c(w) = 0 for a function of the model          augmented Lagrangian
==========  ============================================  ================================================

In a loop of one's own:

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1))
>>> held = constrain(model, orthogonal(), "0")              # before the optimizer is made
>>> optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
>>> handle = held.follow(optimizer)                         # what keeps it from step to step
>>> model(torch.ones(2, 8)).sum().backward(); optimizer.step()
>>> W = model[0].weight
>>> torch.allclose(W @ W.T, torch.eye(4), atol=1e-5)
True

:class:`AugmentedLagrangian` holds conditions on anything that can be computed from a model; :func:`minimize` solves small
deterministic problems with them to high accuracy; :func:`kkt` says how far a point is from a solution.
"""

from collections.abc import Callable, Mapping

from descend.constraints.base import Constraint, Following, Held, Place, baked, constrain
from descend.constraints.binary import binary
from descend.constraints.conditions import KKT, Condition, equality, inequality, kkt
from descend.constraints.lagrangian import AugmentedLagrangian
from descend.constraints.orthogonal import orthogonal
from descend.constraints.projections import norm_ball, simplex, to_ball, to_simplex
from descend.constraints.sqp import Solution, minimize

__all__ = [
    "CONDITIONS",
    "CONSTRAINTS",
    "KKT",
    "AugmentedLagrangian",
    "Condition",
    "Constraint",
    "Following",
    "Held",
    "Place",
    "Solution",
    "baked",
    "binary",
    "constrain",
    "equality",
    "inequality",
    "kkt",
    "minimize",
    "norm_ball",
    "orthogonal",
    "simplex",
    "to_ball",
    "to_simplex",
]

CONSTRAINTS: Mapping[str, Callable[..., Constraint]] = {
    "orthogonal": orthogonal,
    "norm_ball": norm_ball,
    "simplex": simplex,
    "binary": binary,
}

CONDITIONS: Mapping[str, Callable[..., Condition]] = {"inequality": inequality, "equality": equality}
