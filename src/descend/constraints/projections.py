"""Constraints that are kept by the nearest point of a convex set: a ball, the simplex."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from descend.cards import method
from descend.constraints.base import Constraint, Place
from descend.errors import UserError
from descend.param_types import Positive

__all__ = ["NormBall", "Simplex", "norm_ball", "simplex", "to_ball", "to_simplex"]

Norm = Literal["l1", "l2", "linf"]
Over = Literal["unit", "weight"]

ROUNDING = 1e-6
"""Vectors that are longer than the radius by no more than this share are taken to be inside."""


def to_simplex(vectors: Tensor, total: float = 1.0) -> Tensor:
    """The nearest points of {w : w ≥ 0, Σ w = total}, row by row of (r, k).

    With u the entries in falling order and ρ the largest k with u_k > (Σ_{j≤k} u_j - total)/k, it is
    max(w - θ, 0), where θ = (Σ_{j≤ρ} u_j - total)/ρ.

    Source: Held, Wolfe and Crowder 1974; Duchi, Shalev-Shwartz, Singer and Chandra 2008.

    >>> to_simplex(torch.tensor([[0.5, 1.0, -3.0], [0.2, 0.3, 0.5]]))
    tensor([[0.2500, 0.7500, 0.0000],
            [0.2000, 0.3000, 0.5000]])
    """
    wide = vectors.double()  # sums over many entries
    falling = wide.sort(dim=1, descending=True).values
    excess = falling.cumsum(1) - total
    counts = torch.arange(1, wide.shape[1] + 1, dtype=wide.dtype, device=wide.device)
    number = (falling * counts > excess).sum(1, keepdim=True).clamp_min(1)
    threshold = excess.gather(1, number - 1) / number
    return (wide - threshold).clamp_min(0.0).to(vectors.dtype)


def to_ball(vectors: Tensor, radius: float, norm: Norm = "l2") -> Tensor:
    """The nearest points of {w : ‖w‖ ≤ radius}, row by row of (r, k), in the Euclidean distance.

    >>> to_ball(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
    tensor([[0.6000, 0.8000],
            [0.3000, 0.4000]])
    >>> to_ball(torch.tensor([[3.0, 1.0]]), 2.0, "l1")
    tensor([[2., 0.]])
    """
    if norm == "linf":
        return vectors.clamp(-radius, radius)
    order = 1.0 if norm == "l1" else 2.0
    length = torch.linalg.vector_norm(vectors, order, dim=1, keepdim=True, dtype=torch.float64)
    nearest = (
        to_simplex(vectors.abs(), radius).copysign(vectors)
        if norm == "l1"
        else (vectors * (radius / length.clamp_min(radius))).to(vectors.dtype)
    )
    return torch.where(length > radius * (1.0 + ROUNDING), nearest, vectors)


class NormBall(Constraint):
    """‖w‖ ≤ radius for each unit's weights, or for a weight as a whole. Arguments of :func:`norm_ball`."""

    def __init__(self, radius: float, norm: Norm, over: Over) -> None:
        self.radius, self.norm, self.over = radius, norm, over

    def impose(self, place: Place) -> None:
        """Project the weight."""
        _refuse_parametrized(place, "norm_ball")
        self.project_(place)

    def project_(self, place: Place) -> None:
        """Project the weight."""
        rows = _vectors(place.weight, self.over)
        place.weight.copy_(to_ball(rows, self.radius, self.norm).view_as(place.weight))


class Simplex(Constraint):
    """w ≥ 0 and Σ w = total for each unit's weights, or for a weight as a whole. Arguments of :func:`simplex`."""

    def __init__(self, total: float, over: Over) -> None:
        self.total, self.over = total, over

    def impose(self, place: Place) -> None:
        """Project the weight."""
        _refuse_parametrized(place, "simplex")
        self.project_(place)

    def project_(self, place: Place) -> None:
        """Project the weight."""
        rows = _vectors(place.weight, self.over)
        place.weight.copy_(to_simplex(rows, self.total).view_as(place.weight))


def _vectors(weight: Tensor, over: Over) -> Tensor:
    return weight.flatten(1) if over == "unit" else weight.reshape(1, -1)


def _refuse_parametrized(place: Place, name: str) -> None:
    if place.parametrized:
        raise UserError(f"'{place.path}' is held by another constraint; {name} cannot hold it too")


@method(
    row="G5",
    reference="Srivastava et al. 2014 (max-norm); Duchi et al. 2008 for l1",
    formula="W <- argmin_{||v|| <= r} ||v - W|| after each step, for each unit's incoming weights",
    note="The lecture's constraint 'norm bound' as an indicator function; the projection is its proximal map.",
)
def norm_ball(*, radius: Positive = 1.0, norm: Norm = "l2", over: Over = "unit") -> NormBall:
    """Norm bound: the weights of a unit are not longer than a radius.

    Args:
        radius: r. Default 1.
        norm: ``"l2"``, ``"l1"`` or ``"linf"``. Default ``"l2"``.
        over: ``"unit"`` for the incoming weights of each unit or channel, ``"weight"`` for all of a layer
            together. Default ``"unit"``.

    >>> norm_ball(radius=3.0).radius
    3.0
    """
    return NormBall(radius, norm, over)


@method(
    row="G5",
    reference="Duchi, Shalev-Shwartz, Singer and Chandra 2008",
    formula="W <- argmin_{v >= 0, sum v = s} ||v - W|| after each step, for each unit's incoming weights",
)
def simplex(*, total: Positive = 1.0, over: Over = "unit") -> Simplex:
    """Probability simplex: the weights of a unit are not negative and have a fixed sum, so it averages its inputs.

    Args:
        total: s, the sum. Default 1.
        over: ``"unit"`` for the incoming weights of each unit or channel, ``"weight"`` for all of a layer
            together. Default ``"unit"``.

    >>> simplex().total
    1.0
    """
    return Simplex(total, over)
