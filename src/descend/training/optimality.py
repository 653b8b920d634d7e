"""Is this a minimum? The first- and second-order conditions at the weights as they are.

At a minimum w of a smooth F the gradient vanishes and no eigenvalue of the Hessian is negative. Both are necessary;
an eigenvalue of zero, which networks have many of, leaves open whether F grows along its eigenvector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from descend.errors import UserError
from descend.linalg import Hessian, lanczos
from descend.randomness import forked, generator

__all__ = ["Optimality", "Verdict", "optimality"]

Verdict = Literal["minimum", "saddle", "not stationary", "undecided"]

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
        verdict: "not stationary": the gradient is larger than was asked; "saddle": F falls along some direction (also
            at a maximum); "minimum": the necessary conditions hold; "undecided": no negative curvature was
            found, but the smallest eigenvalue is not known well enough.
    """

    loss: float
    gradient_norm: float
    smallest: float
    largest: float
    error: float
    products: int
    verdict: Verdict


def optimality(
    loss: Callable[[], Tensor],
    parameters: Sequence[Tensor],
    *,
    tolerance: float = 1e-4,
    limit: int = 200,
    seed: int = 0,
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

    Raises:
        UserError: F, its gradient or its curvature is not finite.

    >>> w = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> found = optimality(lambda: w[0] ** 2 - w[1] ** 2, [w])
    >>> found.verdict, round(found.smallest, 6), round(found.largest, 6)
    ('saddle', -2.0, 2.0)
    """
    with forked(parameters[0].device):
        value = loss()
        product = Hessian(value, parameters)
    gradient = product.gradient
    norm = float(torch.linalg.vector_norm(gradient))
    draw = generator(seed, "lanczos")
    start = torch.randn(len(gradient), generator=draw, dtype=torch.float64).to(gradient)
    if not torch.isfinite(product(start)).all() or not torch.isfinite(gradient).all():
        raise UserError("the objective has no finite derivatives at these weights")
    found = lanczos(product, start, limit=limit)
    scale = max(abs(found.smallest), abs(found.largest))
    verdict: Verdict = "minimum"
    if norm > tolerance:
        verdict = "not stationary"
    elif found.smallest < -FLAT * scale:
        # A Ritz value is F's curvature along some vector, whether or not it has come near an eigenvalue.
        verdict = "saddle"
    elif found.smallest_error > FLAT * scale:
        verdict = "undecided"
    error = max(found.smallest_error, found.largest_error)
    return Optimality(
        float(value.detach()), norm, found.smallest, found.largest, error, found.products, verdict
    )
