"""Is this a minimum? The first- and second-order conditions at the weights as they are.

At a minimum w of a smooth F the gradient vanishes and no eigenvalue of the Hessian is negative. Both are necessary;
an eigenvalue of zero, which networks have many of, leaves open whether F grows along its eigenvector.

Under constraints c(w) ≤ 0 and c(w) = 0 the conditions are those of Karush, Kuhn and Tucker: there are multipliers λ, not
negative for inequalities and zero for those that are not active, with which the Lagrangian F + Σ λ c has no gradient; and along
no direction that is tangent to the active constraints is the Lagrangian's curvature negative (Nocedal and Wright 2006, chapter
12). The multipliers are not taken from training: those that make the gradient smallest are found here by bounded least squares.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from descend.constraints.conditions import KKT, Condition, evaluating, measured
from descend.errors import UserError
from descend.linalg import Hessian, flat, lanczos
from descend.rng import forked, generator

__all__ = ["Optimality", "Verdict", "optimality"]

Verdict = Literal["minimum", "saddle", "not stationary", "undecided", "infeasible"]

FLAT = 1e-5
"""Curvature below this share of the largest counts as none."""


@dataclass(frozen=True)
class Optimality:
    """What the derivatives say of a point.

    Args:
        loss: F.
        gradient_norm: ‖∇F‖.
        smallest: the smallest eigenvalue of the Hessian, from above.
        largest: the largest, from below.
        error: an eigenvalue lies within this distance of either.
        products: with the Hessian that it took.
        verdict: "infeasible": a constraint is violated by more than its tolerance; "not stationary": the gradient is larger
            than was asked; "saddle": F falls along some direction (also at a maximum); "minimum": the necessary conditions
            hold; "undecided": no negative curvature was found, but the smallest eigenvalue is not known well enough.
        constraints: the residuals under constraints; None without. λ c is at most λ times the condition's tolerance, since only
            conditions that close to 0 count as active. Gradient and curvature are the Lagrangian's then,
            the latter along the active constraints.
        multipliers: for each condition its λ, (m,).
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


def optimality(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    *,
    tolerance: float = 1e-4,
    limit: int = 200,
    seed: int = 0,
    subject: Any = None,
    conditions: Sequence[Condition] = (),
) -> Optimality:
    """Measure ‖∇F‖ and the ends of the Hessian's spectrum. Parameters, ``.grad`` and random state are left as they are.

    Single precision resolves eigenvalues to about 1e-6 of the largest, and a gradient not below 1e-7 of its terms: ask with
    float64 weights and rows where that matters. At a kink, as of ReLU, the derivatives are those of one side.

    Args:
        loss: gives F with its graph, as :meth:`descend.training.objective.Objective.differentiable` does.
        parameters: w.
        tolerance: the gradient's norm up to which a point is stationary. Default 1e-4.
        limit: on products with the Hessian. Default 200.
        seed: of the random vector that Lanczos' process starts from.
        subject: what the conditions are functions of: the model, or tensors.
        conditions: the constraints, made by :func:`descend.constraints.inequality` and ``equality``.

    Raises:
        UserError: F, its gradient or its curvature is not finite.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> found = optimality(lambda: w[0] ** 2 - w[1] ** 2, [w])
    >>> found.verdict, round(found.smallest, 6), round(found.largest, 6)
    ('saddle', -2.0, 2.0)
    """
    with forked(parameters[0].device):
        value = loss()
        held = _Held.at(value, parameters, subject, conditions) if conditions else None
        product = Hessian(value if held is None else value + held.terms, parameters)
    gradient = product.gradient
    norm = float(torch.linalg.vector_norm(gradient))
    draw = generator(seed, "lanczos")
    start = torch.randn(len(gradient), generator=draw, dtype=torch.float64).to(gradient)
    if not torch.isfinite(product(start)).all() or not torch.isfinite(gradient).all():
        raise UserError("the objective has no finite derivatives at these weights")
    along = product if held is None else held.along(product)
    if held is not None:
        start = held.tangent(start)
    if held is not None and len(held.normals) == len(start):  # a corner: there is no direction to go
        smallest = largest = error = smallest_error = 0.0
        products = 0
    else:
        found = lanczos(along, start, max_iter=limit)
        smallest, largest, products = found.smallest, found.largest, found.products
        smallest_error, error = found.smallest_error, max(found.smallest_error, found.largest_error)
    scale = max(abs(smallest), abs(largest))
    residuals = None if held is None else held.residuals(norm)
    verdict: Verdict = "minimum"
    if held is not None and not held.feasible:
        verdict = "infeasible"
    elif norm > tolerance:
        verdict = "not stationary"
    elif smallest < -FLAT * scale:
        # A Ritz value is F's curvature along some vector, whether or not it has come near an eigenvalue.
        verdict = "saddle"
    elif smallest_error > FLAT * scale:
        verdict = "undecided"
    multipliers = () if held is None else tuple(tuple(each.tolist()) for each in held.multipliers)
    return Optimality(
        float(value.detach()), norm, smallest, largest, error, products, verdict, residuals, multipliers
    )


@dataclass(frozen=True)
class _Held:
    """Conditions at a point, with the multipliers that fit it best.

    Args:
        conditions: all.
        values: c of each, (m,).
        multipliers: λ of each, (m,).
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
    ) -> _Held:
        """Find the multipliers by least squares: min ‖∇F + Σ λ ∇c‖ over λ ≥ 0, or of either sign for equalities."""
        from scipy.optimize import lsq_linear

        with torch.enable_grad(), evaluating(subject):
            values = [condition.values(subject) for condition in conditions]

        def slope(of: Tensor) -> Tensor:
            found = torch.autograd.grad(
                of, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            return flat(list(found))

        slopes = torch.stack([slope(number) for own in values for number in own])
        free, active = [], []
        for condition, own in zip(conditions, values, strict=True):
            equal = condition.kind == "equality"
            free += [equal] * len(own)
            active += [equal or float(number) >= -condition.tolerance for number in own.detach()]
        chosen = torch.tensor(active, device=slopes.device)
        multipliers = slopes.new_zeros(len(slopes))
        if any(active):
            low = [-torch.inf if free[at] else 0.0 for at in range(len(free)) if active[at]]
            solved = lsq_linear(
                slopes[chosen].T.double().cpu().numpy(),
                -slope(value).double().cpu().numpy(),
                bounds=(low, torch.inf),
                tol=1e-14,
            )
            multipliers[chosen] = torch.as_tensor(solved.x).to(slopes)
        parts = list(multipliers.split([len(own) for own in values]))
        terms = torch.stack([(m * own).sum() for m, own in zip(parts, values, strict=True)]).sum()
        _, lengths, basis = torch.linalg.svd(slopes[chosen], full_matrices=False)
        normals = basis[lengths > 1e-10 * lengths.max()] if len(lengths) else basis
        return cls(conditions, [own.detach() for own in values], parts, terms, normals)

    @property
    def feasible(self) -> bool:
        """Whether each condition is met to its tolerance."""
        pairs = zip(self.conditions, self.values, strict=True)
        return all(float(c.violation(value).max()) <= c.tolerance for c, value in pairs)

    def residuals(self, stationarity: float) -> KKT:
        """Those of the KKT conditions."""
        found = measured(self.conditions, self.values, self.multipliers)
        return KKT(stationarity, **{name: float(value) for name, value in found.items()})

    def tangent(self, vector: Tensor) -> Tensor:
        """Its part along the active constraints."""
        return vector - self.normals.T @ (self.normals @ vector)

    def along(self, product: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """The product with H as a form on directions along the active constraints."""
        return lambda vector: self.tangent(product(self.tangent(vector)))
