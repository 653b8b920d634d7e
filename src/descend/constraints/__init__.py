"""Constraints on weights that hold after every step.

==========  ============================================  ================================================
name        the set                                       how it is kept
==========  ============================================  ================================================
norm_ball   ‖w‖ ≤ r, for each unit                        projection after each step
simplex     w ≥ 0, Σ w = s, for each unit                 projection after each step
binary      {-s, s}                                       sign of latent weights
orthogonal  orthonormal rows or columns                   matrix exponential, Cayley's transform, or a penalty
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
"""

from collections.abc import Callable, Mapping

from descend.constraints.base import Constraint, Following, Held, Place, baked, constrain
from descend.constraints.binary import binary
from descend.constraints.orthogonal import orthogonal
from descend.constraints.projections import norm_ball, simplex, to_ball, to_simplex

__all__ = [
    "CONSTRAINTS",
    "Constraint",
    "Following",
    "Held",
    "Place",
    "baked",
    "binary",
    "constrain",
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
