"""Limited-memory BFGS: an inverse Hessian from pairs of steps s and gradient differences y ≈ (d²F/dw²) s.

The last m pairs define a matrix H ≈ (d²F/dw²)⁻¹ with H y = s for the newest pair (Nocedal 1980). Starting from H₀ = γI, each
pair, the oldest first, updates H by the formula of Broyden, Fletcher, Goldfarb and Shanno:

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / sᵀy

and H is positive definite if sᵀy > 0 for all pairs. The standard evaluation of H v is two loops over the pairs. Here each loop
is one triangular system: with S and Y of shape (m, n), rows in order of age, R the upper triangle of S Yᵀ and D its diagonal,

    first loop     R α = S v             q = v − Yᵀ α,  r = γ q
    second loop    Rᵀ δ = D α − Y r      H v = r + Sᵀ δ

which takes four products with an (m, n) matrix instead of 4 m products with vectors. Everything stays on the device: whether a
pair is stored, and in which row, are tensors, so nothing synchronizes with the device.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, final

import torch
from torch import Tensor

__all__ = ["Pairs", "damped"]


def damped(step: Tensor, change: Tensor, curved: Tensor, share: float = 0.2) -> Tensor:
    """Powell damping: ŷ = θ y + (1 − θ) B s, with the θ closest to 1 such that sᵀŷ ≥ share · sᵀBs (Powell 1978).

    B is the positive definite matrix defined by the current pairs, so sᵀŷ > 0 for every y:

        θ = 1 if sᵀy ≥ share · sᵀBs, else (1 − share) sᵀBs / (sᵀBs − sᵀy)

    Args:
        step: s, (n,).
        change: y, (n,).
        curved: B s, (n,). After a step s = −t H g it is −t g.
        share: minimum ratio of the new curvature along s to the old one. Default 0.2.

    >>> s, y = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 1.0])
    >>> change = damped(s, y, curved=s)
    >>> [round(each, 4) for each in change.tolist()], round(float(s @ change), 4)
    ([0.2, 0.4], 0.2)
    """
    old, new = torch.dot(step, curved), torch.dot(step, change)
    weight = torch.where(new >= share * old, 1.0, (1.0 - share) * old / (old - new))
    return torch.lerp(curved, change, weight)


@final
class Pairs:
    """Ring buffer of the last m pairs (s, y) and the inverse Hessian that they define.

    It stores 2 m n + m² numbers: the pairs and the inner products of their rows.

    Args:
        count: m.
        like: a vector (n,) that defines length, dtype and device.

    >>> pairs = Pairs(3, like=torch.zeros(2))
    >>> taken = pairs.add(torch.tensor([1.0, 0.0]), torch.tensor([4.0, 0.0]))
    >>> bool(taken), pairs.inverse_times(torch.tensor([4.0, 4.0])).tolist()
    (True, [1.0, 1.0])
    >>> bool(pairs.add(torch.ones(2), -torch.ones(2)))  # a pair of negative curvature is skipped
    False
    """

    def __init__(self, count: int, like: Tensor) -> None:
        self._steps = like.new_zeros(count, len(like))
        self._changes = like.new_zeros(count, len(like))
        self._products = like.new_zeros(count, count)
        self._scaling = like.new_ones(())
        self._oldest = torch.zeros((), dtype=torch.int64, device=like.device)

    _NAMES = ("steps", "changes", "products", "scaling", "oldest")

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Pairs:
        """Construct pairs from a :meth:`state`; the tensors are shared."""
        pairs = object.__new__(cls)
        for name in cls._NAMES:
            setattr(pairs, f"_{name}", state[name])
        return pairs

    def state(self) -> dict[str, Tensor]:
        """Return the tensors of the buffer, which :meth:`add` modifies in place."""
        return {name: getattr(self, f"_{name}") for name in self._NAMES}

    def add(self, step: Tensor, change: Tensor) -> Tensor:
        """Replace the oldest pair, unless sᵀy is not clearly above 0 or an entry is not finite.

        A multiple of a pair defines the same matrix. Where the products of a pair overflow or underflow, both vectors are
        first multiplied by the power of two that brings s to a length of order 1. A pair whose curvature is still too small
        for yᵀy is skipped, since γ would be infinite.

        Args:
            step: s, (n,).
            change: y, (n,).

        Returns:
            Whether the pair was stored, 0-dimensional, on the device.
        """
        tiny = torch.finfo(step.dtype).tiny
        curvature, square = torch.dot(step, change), torch.dot(change, change)
        in_range = (
            (curvature.abs() >= tiny) & torch.isfinite(curvature) & (square >= tiny) & torch.isfinite(square)
        )
        factor = torch.where(in_range, 1.0, _unit_factor(step))
        step, change = step * factor, change * factor
        curvature, square = torch.dot(step, change), torch.dot(change, change)
        least = torch.finfo(step.dtype).eps * torch.linalg.vector_norm(step) * square.sqrt()
        # The comparison is false for NaN; for infinite entries the bound is infinite.
        accepted: Tensor = torch.gt(curvature, least) & torch.isfinite(square) & (square >= tiny)
        slot = self._oldest.reshape(1)
        for rows, new in ((self._steps, step), (self._changes, change)):
            old = rows.index_select(0, slot).squeeze(0)
            rows.index_copy_(0, slot, torch.where(accepted, new, old).unsqueeze(0))
        step, change = (rows.index_select(0, slot).squeeze(0) for rows in (self._steps, self._changes))
        for dim, new in ((0, self._changes.mv(step)), (1, self._steps.mv(change))):
            old = self._products.index_select(dim, slot)
            self._products.index_copy_(dim, slot, torch.where(accepted, new.reshape(old.shape), old))
        self._scaling.copy_(torch.where(accepted, curvature / square, self._scaling))
        self._oldest.add_(accepted).remainder_(len(self._steps))
        return accepted

    @property
    def scaling(self) -> Tensor:
        """γ = sᵀy / yᵀy of the newest pair, an inverse curvature along it; 1 if there is no pair. 0-dimensional."""
        return self._scaling

    @property
    def none(self) -> Tensor:
        """Whether there is no pair, 0-dimensional."""
        return torch.eq(self._products.diagonal(), 0).all()

    def inverse_times(self, vector: Tensor, *, first: float | Tensor = 1.0) -> Tensor:
        """Return H v, (n,), for ``vector`` v, (n,); without pairs, ``first`` times v."""
        # The rows in order of age, empty rows first, and the inverse of this permutation.
        order = torch.arange(len(self._steps), device=vector.device)
        place = (order - self._oldest).remainder(len(order))
        order = (order + self._oldest).remainder(len(order))
        upper = self._products[order][:, order].triu()
        diagonal = upper.diagonal()
        # A one on the diagonal of an empty row, which is zero elsewhere, removes the row from the system.
        upper = upper + torch.diag((diagonal == 0).to(upper.dtype))
        scaling = torch.where(self.none, first, self._scaling)

        alpha = _solve(upper, self._steps.mv(vector)[order], upper=True)
        rest: Tensor = scaling * (vector - self._changes.t().mv(alpha[place]))
        delta = _solve(upper.t(), diagonal * alpha - self._changes.mv(rest)[order], upper=False)
        return rest + self._steps.t().mv(delta[place])


def _unit_factor(vector: Tensor) -> Tensor:
    """Return the power of two, 0-dimensional, that brings the largest entry of a vector to between 1/2 and 1, if it exists."""
    exponent = torch.frexp(torch.linalg.vector_norm(vector, math.inf)).exponent
    return torch.exp2(-exponent.clamp(-126, 126).to(vector.dtype))


def _solve(triangle: Tensor, right: Tensor, *, upper: bool) -> Tensor:
    solution: Tensor = torch.linalg.solve_triangular(triangle, right.unsqueeze(1), upper=upper)
    return solution.squeeze(1)
