"""Polynomial regression: a linear layer on powers of the features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.errors import UserError
from descend.param_types import Count

__all__ = ["Powers", "polynomial"]


class Powers(nn.Module):
    """Powers of every feature, x ↦ (x, x², …, x^degree): (n, d) → (n, d·degree).

    The powers of one feature are adjacent. Power 0 is omitted, since the linear layer that follows has a bias.

    Args:
        degree: the largest exponent, at least 1.

    Raises:
        UserError: ``degree`` is below 1.

    >>> Powers(3)(torch.tensor([[2.0, -1.0]]))
    tensor([[ 2.,  4.,  8., -1.,  1., -1.]])
    """

    def __init__(self, degree: int) -> None:
        super().__init__()
        if degree < 1:
            raise UserError(f"polynomial: expected a degree >= 1, got {degree}")
        self.degree = degree

    def forward(self, x: Tensor) -> Tensor:
        """Return the powers, (n, d) → (n, d·degree)."""
        # Products instead of pow: their derivative is exact, and at 0 it avoids 0 · log 0.
        powers = [x]
        for _ in range(1, self.degree):
            powers.append(powers[-1] * x)
        return torch.stack(powers, 2).flatten(1)

    def extra_repr(self) -> str:
        """Return ``degree`` for the printed model."""
        return f"degree={self.degree}"


@method(
    row="A3",
    reference="Sun 2025, Training DNNs",
    formula="y = a + sum_j sum_k b_jk x_j^k, k = 1..degree",
    note="With degree 3 the exponents are [1, 2, 3], where an example in some texts omits x^2; the constant is the "
    "layer's bias.",
)
def polynomial(inputs: tuple[int, ...], outputs: int, *, degree: Count = 3) -> nn.Sequential:
    """Build a polynomial in each feature, without mixed terms; it is linear in its weights, so least squares is convex.

    High powers of inputs above 1 are large and strongly correlated, which makes the problem ill-conditioned: scale the inputs.
    Shapes: (n, *inputs) → (n, outputs). The submodules are ``flatten`` (for inputs of more than one dimension), ``powers``
    and ``output``, whose weight (outputs, d·degree) contains the coefficients of one feature in adjacent columns.

    Args:
        inputs: the shape of one row.
        outputs: the number of raw outputs.
        degree: the largest exponent. Default 3, a cubic.

    >>> polynomial((1,), 1)
    Sequential(
      (powers): Powers(degree=3)
      (output): Linear(in_features=3, out_features=1, bias=True)
    )
    """
    model = nn.Sequential()
    if len(inputs) != 1:
        model.add_module("flatten", nn.Flatten())
    model.add_module("powers", Powers(degree))
    model.add_module("output", nn.Linear(math.prod(inputs) * degree, outputs))
    return model
