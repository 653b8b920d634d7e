"""Constraints that are enforced by projection onto a convex set: norm balls and the simplex."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from descend.cards import method
from descend.constraints.base import ConstrainedWeight, Constraint
from descend.param_types import Positive

__all__ = ["NormBall", "Simplex", "norm_ball", "project_to_ball", "project_to_simplex", "simplex"]

Norm = Literal["l1", "l2", "linf"]
Over = Literal["unit", "weight"]

_LARGE = 1e6
"""Entries above this multiple of the total are shifted before a projection onto the simplex."""

ROUNDING = 1e-6
"""Relative tolerance: vectors whose norm exceeds the radius by at most this fraction count as inside the ball."""


def project_to_simplex(vectors: Tensor, total: float = 1.0) -> Tensor:
    """Return the Euclidean projection of each row onto the simplex {w : w ≥ 0, Σ w = total}.

    With u the entries in descending order and ρ the largest k with u_k > (Σ_{j≤k} u_j - total)/k, the projection is
    max(w - θ, 0), where θ = (Σ_{j≤ρ} u_j - total)/ρ.

    Args:
        vectors: the vectors, (r, k).
        total: the sum of the entries of a projected vector. Default 1.

    Source: Held, Wolfe and Crowder 1974; Duchi, Shalev-Shwartz, Singer and Chandra 2008.

    >>> project_to_simplex(torch.tensor([[0.5, 1.0, -3.0], [0.2, 0.3, 0.5]]))
    tensor([[0.2500, 0.7500, 0.0000],
            [0.2000, 0.3000, 0.5000]])
    """
    wide = vectors.double()  # for sums over many entries
    descending = wide.sort(dim=1, descending=True).values
    # The projection does not depend on a shift of all entries, and next to large ones the total would be lost by rounding.
    largest = descending[:, :1]
    shift = torch.where(largest.abs() > _LARGE * total, largest, 0.0)
    wide, descending = wide - shift, descending - shift
    excess = descending.cumsum(1) - total
    counts = torch.arange(1, wide.shape[1] + 1, dtype=wide.dtype, device=wide.device)
    support = (descending * counts > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = excess.gather(1, support - 1) / support
    return (wide - threshold).clamp_min(0.0).to(vectors.dtype)


def project_to_ball(vectors: Tensor, radius: float, norm: Norm = "l2") -> Tensor:
    """Return the Euclidean projection of each row onto the ball {w : ‖w‖ ≤ radius}.

    Args:
        vectors: the vectors, (r, k).
        radius: the radius of the ball.
        norm: the norm of the ball, ``"l2"``, ``"l1"`` or ``"linf"``. Default ``"l2"``.

    >>> project_to_ball(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    >>> project_to_ball(torch.tensor([[3.0, 1.0]]), 2.0, "l1")
    tensor([[2., 0.]])
    """
    if norm == "linf":
        return vectors.clamp(-radius, radius)
    order = 1.0 if norm == "l1" else 2.0
    length = torch.linalg.vector_norm(vectors, order, dim=1, keepdim=True, dtype=torch.float64)
    nearest = (
        project_to_simplex(vectors.abs(), radius).copysign(vectors)
        if norm == "l1"
        else (vectors * (radius / length.clamp_min(radius))).to(vectors.dtype)
    )
    return torch.where(length > radius * (1.0 + ROUNDING), nearest, vectors)


class NormBall(Constraint):
    """The constraint ‖w‖ ≤ radius on each unit's weights, or on a whole weight. The arguments are those of :func:`norm_ball`."""

    def __init__(self, *, radius: float = 1.0, norm: Norm = "l2", over: Over = "unit") -> None:
        self.radius, self.norm, self.over = radius, norm, over

    def impose(self, target: ConstrainedWeight) -> None:
        """Project the weight."""
        target.require_unparametrized("norm_ball")
        self.project_(target)

    def project_(self, target: ConstrainedWeight) -> None:
        """Project the weight."""
        rows = _vectors(target.weight, self.over)
        target.weight.copy_(project_to_ball(rows, self.radius, self.norm).view_as(target.weight))


class Simplex(Constraint):
    """The constraint w ≥ 0, Σ w = total on each unit's weights or a whole weight. The arguments are those of :func:`simplex`."""

    def __init__(self, *, total: float = 1.0, over: Over = "unit") -> None:
        self.total, self.over = total, over

    def impose(self, target: ConstrainedWeight) -> None:
        """Project the weight."""
        target.require_unparametrized("simplex")
        self.project_(target)

    def project_(self, target: ConstrainedWeight) -> None:
        """Project the weight."""
        rows = _vectors(target.weight, self.over)
        target.weight.copy_(project_to_simplex(rows, self.total).view_as(target.weight))


def _vectors(weight: Tensor, over: Over) -> Tensor:
    return weight.flatten(1) if over == "unit" else weight.reshape(1, -1)


@method(
    row="G5",
    reference="Srivastava et al. 2014 (max-norm); Duchi et al. 2008 for l1",
    formula="W <- argmin_{||v|| <= r} ||v - W|| after each step, for each unit's incoming weights",
    note="The projection is the proximal operator of the indicator function of the ball.",
)
def norm_ball(*, radius: Positive = 1.0, norm: Norm = "l2", over: Over = "unit") -> NormBall:
    """Norm constraint: the norm of each unit's weights is at most a radius.

    Args:
        radius: r. Default 1.
        norm: ``"l2"``, ``"l1"`` or ``"linf"``. Default ``"l2"``.
        over: ``"unit"`` constrains the incoming weights of each unit or channel, ``"weight"`` all weights of a layer
            together. Default ``"unit"``.

    >>> norm_ball(radius=3.0).radius
    3.0
    """
    return NormBall(radius=radius, norm=norm, over=over)


@method(
    row="G5",
    reference="Duchi, Shalev-Shwartz, Singer and Chandra 2008",
    formula="W <- argmin_{v >= 0, sum v = s} ||v - W|| after each step, for each unit's incoming weights",
)
def simplex(*, total: Positive = 1.0, over: Over = "unit") -> Simplex:
    """Simplex constraint: the weights of a unit are non-negative and have a fixed sum, so that it averages its inputs.

    Args:
        total: s, the sum. Default 1.
        over: ``"unit"`` constrains the incoming weights of each unit or channel, ``"weight"`` all weights of a layer
            together. Default ``"unit"``.

    >>> simplex().total
    1.0
    """
    return Simplex(total=total, over=over)
