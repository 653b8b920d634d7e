"""First- and second-order optimality conditions at given weights.

At a minimum w of a smooth F the gradient vanishes and no eigenvalue of the Hessian is negative. Both conditions are
necessary. An eigenvalue of zero, of which networks have many, leaves open whether F grows along its eigenvector.

Under constraints c(w) ≤ 0 and c(w) = 0 the conditions are those of Karush, Kuhn and Tucker: there are multipliers λ, non-negative
for inequalities and zero for inactive ones, such that the gradient of the Lagrangian F + Σ λ c vanishes; and it has no
negative curvature along directions tangent to the active constraints (Nocedal and Wright 2006, chapter 12). The multipliers
are not those of training: the ones that minimize the norm of the gradient are computed here by bounded least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from descend.constraints.conditions import KKT, Condition, evaluating, gradient_free_residuals
from descend.errors import UserError
from descend.linalg import Hessian, flat, lanczos
from descend.rng import forked, generator

__all__ = ["Optimality", "Verdict", "check_optimality"]

Verdict = Literal["minimum", "saddle", "not stationary", "undecided", "infeasible"]

CURVATURE_TOLERANCE = 1e-5
"""Curvature below this fraction of the largest counts as zero."""


@dataclass(frozen=True)
class Optimality:
    """The optimality conditions at a point.

    Args:
        loss: F.
        gradient_norm: ‖∇F‖.
        smallest: an upper bound of the smallest eigenvalue of the Hessian.
        largest: a lower bound of the largest.
        error: there is an eigenvalue within this distance of each of them.
        products: the number of Hessian-vector products that were computed.
        verdict: "infeasible": a constraint is violated by more than its tolerance; "not stationary": the gradient is larger
            than the tolerance; "saddle": F decreases along some direction (also at a maximum); "minimum": the necessary
            conditions hold; "undecided": no negative curvature was found, but the smallest eigenvalue is not known
            accurately enough.
        constraints: the residuals under constraints; None without constraints. λ c is at most λ times the condition's tolerance,
            since only conditions that close to 0 count as active. Under constraints, gradient and curvature are those of the
            Lagrangian, the latter along the active constraints.
        multipliers: λ of each condition, (m,).
    """

    loss: float
    gradient_norm: float
    smallest: float
    largest: float
    error: float
    products: int
    verdict: Verdict
    constraints: KKT | None = None
    multipliers: tuple[tuple[float, ...], ...] = ()


def check_optimality(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    *,
    tolerance: float = 1e-4,
    limit: int = 200,
    seed: int = 0,
    subject: Any = None,
    conditions: Sequence[Condition] = (),
) -> Optimality:
    """Compute ‖∇F‖ and the extreme eigenvalues of the Hessian. Parameters, ``.grad`` and random state are left unchanged.

    Single precision resolves eigenvalues to about 1e-6 of the largest one, and a gradient to about 1e-7 of its terms: use
    float64 weights and rows where that matters. At a kink, as in ReLU, the derivatives are those of one side.

    Args:
        loss: returns F with its graph, as :meth:`descend.training.objective.Objective.differentiable` does.
        parameters: w.
        tolerance: the norm of the gradient up to which a point is stationary. Default 1e-4.
        limit: the maximum number of Hessian-vector products. Default 200.
        seed: of the random start vector of the Lanczos process. Default 0.
        subject: the argument of the conditions: the model, or tensors.
        conditions: the constraints, created by :func:`descend.constraints.inequality` and ``equality``.

    Raises:
        UserError: F, its gradient or its curvature is not finite.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> result = check_optimality(lambda: w[0] ** 2 - w[1] ** 2, [w])
    >>> result.verdict, round(result.smallest, 6), round(result.largest, 6)
    ('saddle', -2.0, 2.0)
    """
    with forked(parameters[0].device):
        value = loss()
        active = _ActiveConstraints.at(value, parameters, subject, conditions) if conditions else None
        product = Hessian(value if active is None else value + active.terms, parameters)
    gradient = product.gradient
    norm = float(torch.linalg.vector_norm(gradient))
    rng = generator(seed, "lanczos")
    start = torch.randn(len(gradient), generator=rng, dtype=torch.float64).to(gradient)
    if not torch.isfinite(product(start)).all() or not torch.isfinite(gradient).all():
        raise UserError("the objective has no finite derivatives at these weights")
    projected = product if active is None else active.project(product)
    if active is not None:
        start = active.tangent(start)
    if active is not None and len(active.normals) == len(start):  # a vertex: there are no tangent directions
        smallest = largest = error = smallest_error = 0.0
        products = 0
    else:
        spectrum = lanczos(projected, start, max_iter=limit)
        smallest, largest, products = spectrum.smallest, spectrum.largest, spectrum.products
        smallest_error, error = spectrum.smallest_error, max(spectrum.smallest_error, spectrum.largest_error)
    scale = max(abs(smallest), abs(largest))
    residuals = None if active is None else active.residuals(norm)
    verdict: Verdict = "minimum"
    if active is not None and not active.feasible:
        verdict = "infeasible"
    elif norm > tolerance:
        verdict = "not stationary"
    elif smallest < -CURVATURE_TOLERANCE * scale:
        # A Ritz value is the curvature of F along some vector, whether or not it approximates an eigenvalue well.
        verdict = "saddle"
    elif smallest_error > CURVATURE_TOLERANCE * scale:
        verdict = "undecided"
    multipliers = () if active is None else tuple(tuple(each.tolist()) for each in active.multipliers)
    return Optimality(
        float(value.detach()), norm, smallest, largest, error, products, verdict, residuals, multipliers
    )


@dataclass(frozen=True)
class _ActiveConstraints:
    """The conditions at a point, with their least-squares multipliers and the normals of the active ones.

    Args:
        conditions: all of them.
        values: c of each condition, (m,).
        multipliers: λ of each condition, (m,).
        terms: Σ λ c, with its graph.
        normals: an orthonormal basis of the span of the active constraints' gradients, (r, n).
    """

    conditions: Sequence[Condition]
    values: Sequence[Tensor]
    multipliers: Sequence[Tensor]
    terms: Tensor
    normals: Tensor

    @classmethod
    def at(
        cls, value: Tensor, parameters: Sequence[Tensor], subject: Any, conditions: Sequence[Condition]
    ) -> _ActiveConstraints:
        """Compute the multipliers by least squares: min ‖∇F + Σ λ ∇c‖ over λ ≥ 0, or of either sign for equalities."""
        from scipy.optimize import lsq_linear

        with torch.enable_grad(), evaluating(subject):
            values = [condition.values(subject) for condition in conditions]

        def gradient(of: Tensor) -> Tensor:
            gradients = torch.autograd.grad(
                of, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return flat(list(gradients))

        jacobian = torch.stack([gradient(number) for own in values for number in own])
        free, active = [], []
        for condition, own in zip(conditions, values, strict=True):
            equal = condition.kind == "equality"
            free += [equal] * len(own)
            active += [equal or float(number) >= -condition.tolerance for number in own.detach()]
        chosen = torch.tensor(active, device=jacobian.device)
        multipliers = jacobian.new_zeros(len(jacobian))
        if any(active):
            low = [-torch.inf if free[at] else 0.0 for at in range(len(free)) if active[at]]
            solution = lsq_linear(
                jacobian[chosen].T.double().cpu().numpy(),
                -gradient(value).double().cpu().numpy(),
                bounds=(low, torch.inf),
                tol=1e-14,
            )
            multipliers[chosen] = torch.as_tensor(solution.x).to(jacobian)
        parts = list(multipliers.split([len(own) for own in values]))
        terms = torch.stack([(m * own).sum() for m, own in zip(parts, values, strict=True)]).sum()
        _, singular, basis = torch.linalg.svd(jacobian[chosen], full_matrices=False)
        normals = basis[singular > 1e-10 * singular.max()] if len(singular) else basis
        return cls(conditions, [own.detach() for own in values], parts, terms, normals)

    @property
    def feasible(self) -> bool:
        """Whether each condition is satisfied to its tolerance."""
        pairs = zip(self.conditions, self.values, strict=True)
        return all(float(c.violation(value).max()) <= c.tolerance for c, value in pairs)

    def residuals(self, stationarity: float) -> KKT:
        """Return the residuals of the KKT conditions."""
        residuals = gradient_free_residuals(self.conditions, self.values, self.multipliers)
        return KKT(stationarity, **{name: float(value) for name, value in residuals.items()})

    def tangent(self, vector: Tensor) -> Tensor:
        """Return the component of a vector along the active constraints."""
        return vector - self.normals.T @ (self.normals @ vector)

    def project(self, product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """Return the product with P H P, where P projects onto the tangent space of the active constraints."""
        return lambda vector: self.tangent(product(self.tangent(vector)))
