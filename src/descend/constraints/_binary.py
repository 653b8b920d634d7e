"""Binary weights, trained with the straight-through estimator."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from descend.cards import method
from descend.constraints.base import ConstrainedWeight, Constraint
from descend.param_types import Positive

__all__ = ["Binary", "binary"]


class _Sign(torch.autograd.Function):
    """The function latent ↦ ±scale by sign; its backward pass is that of the identity."""

    @staticmethod
    def forward(ctx: Any, latent: Tensor, scale: Tensor) -> Tensor:
        return torch.where(latent >= 0, scale, -scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0], None


class _SignParametrization(nn.Module):
    """The parametrization of a binary weight by latent real weights."""

    scale: Tensor
    constrains = True

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor(scale))

    def forward(self, latent: Tensor) -> Tensor:
        """Return the binary weight."""
        weight: Tensor = _Sign.apply(latent, self.scale.to(latent.dtype))
        return weight

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return latent weights for a given weight: the weight, clipped to [-scale, scale]."""
        limit = float(self.scale)
        return weight.clamp(-limit, limit)


class Binary(Constraint):
    """Binary weights, each entry -s or s. The arguments are those of :func:`binary`."""

    def __init__(self, *, scale: float | Literal["auto"] = "auto") -> None:
        self.scale = scale

    def impose(self, target: ConstrainedWeight) -> None:
        """Parametrize the weight by the signs of latent weights, whose initial values are those of the weight."""
        if target.parametrized and isinstance(target.parametrization, _SignParametrization):
            return
        target.require_unparametrized("binary")
        scale = self.scale
        if scale == "auto":
            # In double precision, since squares of float32 weights above 1.8e19 overflow.
            root_mean_square = float(target.weight.double().square().mean().sqrt())
            scale = root_mean_square if root_mean_square > 0 else 1.0 / math.sqrt(target.weight[0].numel())
        parametrization = _SignParametrization(scale).to(target.weight.device)
        parametrize.register_parametrization(target.module, target.name, parametrization)

    def project_(self, target: ConstrainedWeight) -> None:
        """Clip the latent weights to [-s, s]: a larger one would need ever more steps to change its sign."""
        parametrization = target.parametrization
        assert isinstance(parametrization, _SignParametrization)
        target.variable.clamp_(-parametrization.scale, parametrization.scale)


@method(
    row="G5",
    reference="Courbariaux, Bengio and David 2015; Bengio, Léonard and Courville 2013 (straight-through)",
    formula="W = s sign(V), dL/dV := dL/dW, V clipped to [-s, s] after each step",
    note="The derivative of sign is 0 almost everywhere; the straight-through estimator replaces it by 1.",
)
def binary(*, scale: Positive | Literal["auto"] = "auto") -> Binary:
    """Binary weights: every entry is -s or s, the sign of a latent real weight that is trained in its place.

    Args:
        scale: s; ``"auto"`` is the root mean square of each initial weight, so that activations keep their magnitude, or
            1/√d_in where the weight is zero. Default ``"auto"``.

    >>> binary(scale=1.0).scale
    1.0
    """
    return Binary(scale=scale)
