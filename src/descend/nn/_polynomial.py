"""The lecture's first model: a polynomial, which is a linear layer on powers."""

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

    The powers of one feature stand together. There is no power 0: the linear layer behind has a bias.

    Args:
        degree: the largest exponent, 1 or more.

    Raises:
        UserError: ``degree`` is below 1.

    >>> Powers(3)(torch.tensor([[2.0, -1.0]]))
    tensor([[ 2.,  4.,  8., -1.,  1., -1.]])
    """

    def __init__(self, degree: int) -> None:
        super().__init__()
        if degree < 1:
            raise UserError(f"polynomial: the degree must be 1 or more; found {degree}")
        self.degree = degree

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) → (n, d·degree)."""
        # Products and not pow: their derivative is exact, and at 0 it is no 0 · log 0.
        powers = [x]
        for _ in range(1, self.degree):
            powers.append(powers[-1] * x)
        return torch.stack(powers, 2).flatten(1)

    def extra_repr(self) -> str:
        """``degree`` in the printed model."""
        return f"degree={self.degree}"


@method(
    row="A3",
    reference="Sun 2025, Training DNNs",
    formula="y = a + sum_j sum_k b_jk x_j^k, k = 1..degree",
    note="The lecture's example of an optimizer builds torch.tensor([1, x, x3]); the exponents are [1, 2, 3], and the "
    "constant is the layer's bias.",
)
def polynomial(inputs: tuple[int, ...], outputs: int, *, degree: Count = 3) -> nn.Sequential:
    """Polynomial in each feature, without products of different ones: linear in its weights, so least squares is convex.

    High powers of numbers beyond 1 are large and alike, which makes the problem ill-conditioned: scale the inputs.
    Shapes: (n, *inputs) → (n, outputs). The children are ``flatten`` (for inputs of more than one dimension), ``powers``
    and ``output``, whose weight (outputs, d·degree) holds the coefficients of one feature side by side.

    Args:
        inputs: the shape of one row.
        outputs: the number of raw outputs.
        degree: the largest exponent. Default 3, the lecture's cubic.

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
