"""Periodic embeddings of numbers."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.errors import UserError
from descend.nn.number_embedding.per_number import mapped, uniform
from descend.param_types import Count, Positive

__all__ = ["PeriodicEmbedding"]


@method(
    row="K5",
    reference="Gorishniy, Rubachev and Babenko 2022 (PLR); Holzmüller, Grinsztajn and Steinwart 2024, RealMLP (PBLD)",
    formula="pbld: y_j = [x_j, cos(2π w_j x_j + v_j) W_j + b_j]; plr: y_j = relu([sin(2π w_j x_j), cos(2π w_j x_j)] W_j + b_j)",
    note='Its learning rate is set by optimizer.groups = {"numbers*" = 0.1}; docs/tables.md has the values of RealMLP.',
)
@final
class PeriodicEmbedding(nn.Module):
    """Periodic embedding of numbers: sines and cosines of learned frequencies, and a linear map, for each number.

    With k frequencies w_j for number j of a row, the embedding of e entries is

    - ``pbld``: y_j = [x_j, cos(2π w_j x_j + v_j) W_j + b_j] with W_j (k, e − 1): periodic, bias, linear, and the number itself;
    - ``plr``: y_j = max([sin(2π w_j x_j), cos(2π w_j x_j)] W_j + b_j, 0) with W_j (2k, e): periodic, linear, ReLU.

    Initial frequencies are normal with mean 0 and standard deviation σ, phases v_j uniform in [−π, π], and W_j and b_j as of
    ``torch.nn.Linear``. A small σ makes the function smooth at the start; it is the setting that matters most.

    Shapes: (n, d) → (n, d, e).

    Args:
        numbers: d, how many numbers a row has.
        form: ``"pbld"`` or ``"plr"``. Default ``"pbld"``.
        frequencies: k. Default 16.
        dimension: e; at least 2 for ``pbld``. Default 4.
        sigma: σ, relative to numbers of about unit size. Default 0.1.

    Raises:
        UserError: the form is ``"pbld"`` and the dimension 1, which the number itself takes.

    >>> embedding = PeriodicEmbedding(3)
    >>> x = torch.tensor([[1.0, 2.0, 3.0]])
    >>> embedding(x).shape, embedding(x)[0, :, 0].tolist()
    (torch.Size([1, 3, 4]), [1.0, 2.0, 3.0])
    """

    phase: nn.Parameter | None

    def __init__(
        self,
        numbers: int,
        *,
        form: Literal["pbld", "plr"] = "pbld",
        frequencies: Count = 16,
        dimension: Count = 4,
        sigma: Positive = 0.1,
    ) -> None:
        super().__init__()
        if form == "pbld" and dimension == 1:
            raise UserError(
                "number_embedding 'periodic': one of the dimensions is the number itself with form = 'pbld', so that "
                "dimension must be 2 or more; got 1"
            )
        self.numbers, self.form, self.dimension = numbers, form, dimension
        self.frequency = nn.Parameter(torch.empty(numbers, frequencies).normal_(0.0, sigma))
        waves, learned = (frequencies, dimension - 1) if form == "pbld" else (2 * frequencies, dimension)
        if form == "pbld":
            self.phase = nn.Parameter(torch.empty(numbers, frequencies).uniform_(-math.pi, math.pi))
        else:
            self.register_parameter("phase", None)
        self.weight = uniform(numbers, waves, learned, inputs=waves)
        self.bias = uniform(numbers, learned, inputs=waves)

    @property
    def outputs(self) -> int:
        """The size of an embedded row, d e."""
        return self.numbers * self.dimension

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings (n, d, e) of the numbers (n, d)."""
        x = x.unsqueeze(-1)
        angle = x * (2.0 * math.pi * self.frequency)
        if self.phase is not None:
            return torch.cat([x, mapped(torch.cos(angle + self.phase), self.weight, self.bias)], dim=-1)
        return torch.relu(
            mapped(torch.cat([torch.sin(angle), torch.cos(angle)], dim=-1), self.weight, self.bias)
        )

    def extra_repr(self) -> str:
        """Return the settings, for the summary of a model."""
        return f"{self.numbers}, form={self.form!r}, frequencies={self.frequency.shape[1]}, dimension={self.dimension}"
