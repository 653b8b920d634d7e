"""Weights with orthonormal rows or columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal as torch_orthogonal

from descend.cards import method as card
from descend.constraints.base import Constraint, Place
from descend.constraints.cayley import Cayley
from descend.errors import UserError
from descend.param_types import Positive

__all__ = ["METHODS", "Exponential", "Penalty", "orthogonal"]


class _Frames(nn.Module):
    """The parametrisation: torch's map onto orthonormal frames, with kernels of convolutions laid flat.

    The exponential in float32 leaves an error that grows with the size of the matrix; a step of Newton's iteration
    for the polar factor, W <- (3 I - W Wᵀ) W / 2, takes it back to rounding and changes nothing else.
    """

    constrains = True

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        rows, columns = weight.flatten(1).shape
        holder = nn.Linear(columns, rows, bias=False, device=weight.device, dtype=weight.dtype)
        torch_orthogonal(holder, orthogonal_map="matrix_exp")
        held: Any = holder.parametrizations
        self.frames = held.weight[0]

    def forward(self, free: Tensor) -> Tensor:
        """The orthonormal weight."""
        frame: Tensor = self.frames(free)
        if self.shape[0] <= frame.shape[1]:
            frame = torch.addmm(frame, frame @ frame.mT, frame, beta=1.5, alpha=-0.5)
        else:
            frame = torch.addmm(frame, frame, frame.mT @ frame, beta=1.5, alpha=-0.5)
        return frame.view(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Free variables whose weight is an orthonormal basis of the given one's rows or columns (QR)."""
        frames: Any = self.frames
        found: Tensor = frames.right_inverse(weight.flatten(1))
        return found


class Exponential(Constraint):
    """W = B exp(A) with A skew-symmetric and B fixed, so that any step leads to an orthonormal W."""

    def impose(self, place: Place) -> None:
        """Parametrise the weight; it starts at an orthonormal basis of what it spans."""
        if place.parametrized:
            if isinstance(place.parametrization, _Frames):
                return
            raise UserError(f"'{place.path}' is held by another constraint; orthogonal cannot hold it too")
        parametrize.register_parametrization(place.module, place.name, _Frames(place.weight))


class Penalty(Constraint):
    """‖M‖²_F, M the smaller Gram matrix less the identity, added to the loss: nearly orthonormal."""

    def __init__(self, strength: float) -> None:
        self.strength = strength

    def impose(self, place: Place) -> None:
        """Nothing: the penalty acts over time."""
        if place.parametrized:
            raise UserError(f"'{place.path}' is held by another constraint; orthogonal cannot hold it too")

    def penalty(self, weight: Tensor) -> Tensor:
        """The factor times ‖M‖²_F, exactly."""
        matrix = weight.flatten(1)
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
        eye = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
        return self.strength * (wide @ wide.mT - eye).square().sum()


METHODS: Mapping[str, Callable[[float], Constraint]] = {
    "exponential": lambda strength: Exponential(),
    "cayley": lambda strength: Cayley(),
    "penalty": Penalty,
}
"""How orthogonality is kept, by name: a function of the strength."""


@card(
    row="G6",
    reference="Lezcano-Casado and Martínez-Rubio 2019; torch.nn.utils.parametrizations.orthogonal; Li, Fuxin and Todorovic "
    "2020",
    formula="W = B exp(A), A = -A^T; or W <- (I - A/2)^-1 (I + A/2) W, A W the tangent part of a step; or "
    "loss + w ||W W^T - I||_F^2",
    note="A weight of at most as many rows as columns gets orthonormal rows, any other orthonormal columns. Weight "
    "decay leaves it alone.",
)
def orthogonal(
    *, method: Literal["exponential", "cayley", "penalty"] = "exponential", strength: Positive = 1.0
) -> Constraint:
    """Orthogonal weights: the rows (or columns) of each weight stay orthonormal, so that no signal is stretched.

    Args:
        method: ``"exponential"`` parametrises the weight by a matrix exponential; ``"cayley"`` leaves it a plain weight
            and turns each step of the optimizer into one along the manifold, which is cheaper. Both hold exactly, up to
            rounding. ``"penalty"`` pulls towards orthonormality and holds nearly. Default ``"exponential"``.
        strength: w, the factor of the penalty. Default 1.

    >>> type(orthogonal(method="penalty")).__name__
    'Penalty'
    """
    return METHODS[method](strength)
