"""Weights of two values, trained through the straight-through estimator."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from descend.cards import method
from descend.constraints.base import Constraint, Place
from descend.errors import UserError
from descend.param_types import Positive

__all__ = ["Binary", "binary"]


class _Sign(torch.autograd.Function):
    """±scale by sign, with the derivative of the identity."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, scale: Tensor) -> Tensor:
        return torch.where(latent >= 0, scale, -scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _Signs(nn.Module):
    """The parametrisation: latent real weights → ±scale."""

    scale: Tensor
    constrains = True

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, latent: Tensor) -> Tensor:
        """The binary weight."""
        found: Tensor = _Sign.apply(latent, self.scale.to(latent.dtype))
        return found

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Latent weights for a given one: itself, clipped."""
        limit = float(self.scale)
        return weight.clamp(-limit, limit)


class Binary(Constraint):
    """Every entry is -s or s. Arguments of :func:`binary`."""

    def __init__(self, scale: float | Literal["auto"]) -> None:
        self.scale = scale

    def impose(self, place: Place) -> None:
        """Parametrise the weight by the sign of latent weights that start at its values."""
        if place.parametrized:
            if isinstance(place.parametrization, _Signs):
                return
            raise UserError(f"'{place.path}' is held by another constraint; binary cannot hold it too")
        scale = self.scale
        if scale == "auto":
            size = float(place.weight.square().mean().sqrt())
            scale = size if size > 0 else 1.0 / math.sqrt(place.weight[0].numel())
        signs = _Signs(scale).to(place.weight.device)
        parametrize.register_parametrization(place.module, place.name, signs)

    def project_(self, place: Place) -> None:
        """Clip the latent weights to [-s, s]: beyond, steps would change nothing for ever longer."""
        signs = place.parametrization
        assert isinstance(signs, _Signs)
        place.variable.clamp_(-signs.scale, signs.scale)


@method(
    row="G5",
    reference="Courbariaux, Bengio and David 2015; Bengio, Léonard and Courville 2013 (straight-through)",
    formula="W = s sign(V), dL/dV := dL/dW, V clipped to [-s, s] after each step",
    note="The derivative of sign is 0 almost everywhere; the straight-through estimator replaces it by 1.",
)
def binary(*, scale: Positive | Literal["auto"] = "auto") -> Binary:
    """Binary weights: every entry is -s or s, by the sign of real weights that are trained in its place.

    Args:
        scale: s; ``"auto"`` is the root mean square of each weight as it was initialised, so that signals keep their
            size, and 1/√d_in where that is 0. Default ``"auto"``.

    >>> binary(scale=1.0).scale
    1.0
    """
    return Binary(scale)
