"""Linear algebra on the parameters of a network: curvature-vector products and matrix-free solvers.

A vector is one flat tensor of all parameters (:mod:`~descend.linalg.vectors`); a matrix is a function that multiplies it with
a vector (:mod:`~descend.linalg.operators`). Conjugate gradients (:mod:`~descend.linalg.solvers`) and the Lanczos process
(:mod:`~descend.linalg.spectrum`) need only such products. An approximate inverse is built from pairs of steps and gradient
differences (:mod:`~descend.linalg.pairs`). The matrices of single layers are stored explicitly, in stacks: Kronecker
factors (:mod:`~descend.linalg.kronecker`) and orthonormal frames (:mod:`~descend.linalg.stiefel`).

>>> import torch
>>> w = torch.tensor([1.0, -1.0], requires_grad=True)
>>> product = Hessian((w**2 * torch.tensor([0.5, 2.0])).sum(), [w])
>>> product(torch.ones(2))
tensor([1., 4.])
"""

from __future__ import annotations

from descend.linalg.kronecker import Stacking, inverse_root, inverse_roots, largest_eigenvalue
from descend.linalg.operators import EmpiricalFisher, GaussNewton, Hessian, Jacobian
from descend.linalg.pairs import Pairs, damped
from descend.linalg.solvers import Solution, conjugate_gradient
from descend.linalg.spectrum import Extremes, lanczos
from descend.linalg.vectors import flat, views

__all__ = [
    "EmpiricalFisher",
    "Extremes",
    "GaussNewton",
    "Hessian",
    "Jacobian",
    "Pairs",
    "Solution",
    "Stacking",
    "conjugate_gradient",
    "damped",
    "flat",
    "inverse_root",
    "inverse_roots",
    "lanczos",
    "largest_eigenvalue",
    "views",
]
