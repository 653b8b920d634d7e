"""The layer in front of a network that embeds the numbers of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

from torch import Tensor, nn

from descend.nn.front import divided, joined, runs_of

__all__ = ["NumberEmbedding"]


@final
class NumberEmbedding(nn.Module):
    """Embed some entries of a row, its numbers, and leave the others unchanged.

    The output is the embedded numbers, one after the other, followed by the other entries of the row in their order.

    Shapes: (n, width) → (n, m + width − d), with m the size of the embedded numbers.

    Args:
        embedding: a module that maps numbers (n, d) to (n, d, e), (n, m) or any other shape (n, ...).
        positions: the positions of the d numbers in a row, in increasing order.
        width: the number of entries of a row.

    >>> import torch
    >>> from descend.nn import LinearEmbedding
    >>> layer = NumberEmbedding(LinearEmbedding(2, dimension=3), positions=(0, 2), width=4)
    >>> layer(torch.tensor([[1.0, 7.0, 2.0, 8.0]]))[:, 6:].tolist()
    [[7.0, 8.0]]
    """

    def __init__(self, embedding: nn.Module, *, positions: Sequence[int], width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions, self.width = tuple(positions), width
        self.runs = runs_of(positions, width)

    def divided(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the numbers (..., d) of rows (..., width), and the other entries, if there are any."""
        return divided(rows, self.runs)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the embedded numbers and the other entries of each row."""
        numbers, others = self.divided(rows)
        embedded = cast(Tensor, self.embedding(numbers)).flatten(1)
        return embedded if others is None else joined([embedded, others.to(embedded.dtype)])

    def extra_repr(self) -> str:
        """Return the sizes, for the summary of a model."""
        return f"numbers={len(self.positions)}, width={self.width}"
