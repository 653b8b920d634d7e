"""Linear embedding of numbers."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.nn.number_embedding.per_number import activated, uniform
from descend.param_types import Count

__all__ = ["LinearEmbedding"]


@method(
    row="K5",
    reference="Gorishniy, Rubachev and Babenko 2022, On embeddings for numerical features in tabular deep learning",
    formula="y_j = f(x_j w_j + b_j)",
    note="Without an activation a linear layer after it computes no more than it could from x; its gradients differ.",
)
@final
class LinearEmbedding(nn.Module):
    """Linear embedding of numbers: each number times a learned vector of its own, plus another.

    Number j of a row becomes y_j = f(x_j w_j + b_j) with w_j and b_j of e entries, and f the identity or max(·, 0). The initial
    entries are uniform in [−1, 1].

    Shapes: (n, d) → (n, d, e).

    Args:
        numbers: d, how many numbers a row has.
        dimension: e. Default 8.
        activation: f, ``"none"`` or ``"relu"``. Default ``"none"``.

    >>> LinearEmbedding(3, dimension=4)(torch.zeros(5, 3)).shape
    torch.Size([5, 3, 4])
    """

    def __init__(
        self, numbers: int, *, dimension: Count = 8, activation: Literal["none", "relu"] = "none"
    ) -> None:
        super().__init__()
        self.numbers, self.dimension, self.activation = numbers, dimension, activation
        self.weight = uniform(numbers, dimension, inputs=1)
        self.bias = uniform(numbers, dimension, inputs=1)

    @property
    def outputs(self) -> int:
        """The size of an embedded row, d e."""
        return self.numbers * self.dimension

    def forward(self, x: Tensor) -> Tensor:
        """Return the embeddings (n, d, e) of the numbers (n, d)."""
        return activated(torch.addcmul(self.bias, x.unsqueeze(-1), self.weight), self.activation)

    def extra_repr(self) -> str:
        """Return the settings, for the summary of a model."""
        return f"{self.numbers}, dimension={self.dimension}, activation={self.activation!r}"
