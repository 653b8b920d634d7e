"""Orthogonal weights: orthonormal rows or columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import orthogonal as torch_orthogonal

from descend.cards import method as card
from descend.constraints.base import ConstrainedWeight, Constraint
from descend.constraints.cayley import Cayley
from descend.param_types import Positive

__all__ = ["METHODS", "Exponential", "Penalty", "orthogonal"]


class _FrameParametrization(nn.Module):
    """The parametrization by torch's matrix exponential; convolution kernels are flattened to a matrix.

    The exponential in float32 has an error that grows with the size of the matrix. One step of Newton's iteration for
    the polar factor, W <- (3 I - W Wᵀ) W / 2, reduces it to the rounding error and changes nothing else.
    """

    constrains = True

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.shape = tuple(weight.shape)
        rows, columns = weight.flatten(1).shape
        layer = nn.Linear(columns, rows, bias=False, device=weight.device, dtype=weight.dtype)
        torch_orthogonal(layer, orthogonal_map="matrix_exp")
        parametrizations: Any = layer.parametrizations
        self.frames = parametrizations.weight[0]

    def forward(self, free: Tensor) -> Tensor:
        """Return the orthonormal weight."""
        frame: Tensor = self.frames(free)
        if self.shape[0] <= frame.shape[1]:
            frame = torch.addmm(frame, frame @ frame.mT, frame, beta=1.5, alpha=-0.5)
        else:
            frame = torch.addmm(frame, frame, frame.mT @ frame, beta=1.5, alpha=-0.5)
        return frame.view(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return variables whose weight is an orthonormal basis of the rows or columns of the given one (QR)."""
        frames: Any = self.frames
        variable: Tensor = frames.right_inverse(_of_full_rank(weight.flatten(1)))
        return variable


def _of_full_rank(matrix: Tensor) -> Tensor:
    """Return a matrix of full rank as it is, and the orthonormal completion of one whose rows or columns are dependent.

    PyTorch multiplies each vector of the basis by the sign of an entry of R's diagonal, which is 0 for a dependent one.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    basis, triangle = torch.linalg.qr(tall)
    diagonal = triangle.diagonal()
    if diagonal.all():
        return matrix
    frame: Tensor = basis * torch.where(diagonal < 0, -1.0, 1.0)
    return frame if tall is matrix else frame.mT


class Exponential(Constraint):
    """The parametrization W = B exp(A) with A skew-symmetric and B fixed: W is orthonormal after any step."""

    def impose(self, target: ConstrainedWeight) -> None:
        """Parametrize the weight; its initial value is an orthonormal basis of its row or column space."""
        if target.parametrized and isinstance(target.parametrization, _FrameParametrization):
            return
        target.require_unparametrized("orthogonal")
        parametrization = _FrameParametrization(target.weight)
        parametrize.register_parametrization(target.module, target.name, parametrization)


class Penalty(Constraint):
    """A penalty strength · ‖M‖²_F, M the smaller Gram matrix minus the identity, for nearly orthonormal weights.

    Args:
        strength: the factor of the penalty. Default 1.
    """

    def __init__(self, strength: float = 1.0) -> None:
        self.strength = strength

    def impose(self, target: ConstrainedWeight) -> None:
        """Leave the weight unchanged: the penalty acts during training."""
        target.require_unparametrized("orthogonal")

    def penalty(self, weight: Tensor) -> Tensor:
        """Return strength · ‖M‖²_F."""
        matrix = weight.flatten(1)
        wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT
        eye = torch.eye(len(wide), dtype=wide.dtype, device=wide.device)
        return self.strength * (wide @ wide.mT - eye).square().sum()


METHODS: Mapping[str, Callable[[float], Constraint]] = {
    "exponential": lambda strength: Exponential(),
    "cayley": lambda strength: Cayley(),
    "penalty": Penalty,
}
"""The methods that enforce orthogonality, by name: functions of the strength."""


@card(
    row="G6",
    reference="Lezcano-Casado and Martínez-Rubio 2019; torch.nn.utils.parametrizations.orthogonal; Li, Fuxin and Todorovic "
    "2020",
    formula="W = B exp(A), A = -A^T; or W <- (I - A/2)^-1 (I + A/2) W, A W the tangent part of a step; or "
    "loss + w ||W W^T - I||_F^2",
    note="A weight with at most as many rows as columns has orthonormal rows, any other weight orthonormal columns. Weight "
    "decay does not apply to it.",
)
def orthogonal(
    *, method: Literal["exponential", "cayley", "penalty"] = "exponential", strength: Positive = 1.0
) -> Constraint:
    """Orthogonal weights: the rows (or columns) of each weight stay orthonormal, so that it does not amplify any input.

    Args:
        method: ``"exponential"`` parametrizes the weight by a matrix exponential; ``"cayley"`` keeps a plain weight and
            replaces each step of the optimizer by a step along the manifold, which is cheaper. Both are exact up to
            rounding. ``"penalty"`` adds a penalty to the loss, which is approximate. Default ``"exponential"``.
        strength: w, the factor of the penalty. Default 1.

    >>> type(orthogonal(method="penalty")).__name__
    'Penalty'
    """
    return METHODS[method](strength)
