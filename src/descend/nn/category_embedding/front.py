"""The layer in front of a network that embeds the categories of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

from torch import Tensor, nn

from descend.nn.front import divided, joined, runs_of

__all__ = ["CategoryEmbedding"]


@final
class CategoryEmbedding(nn.Module):
    """Embed the one-hot entries of a row, and leave the others unchanged.

    The output is the other entries of the row in their order, followed by the embedded categories.

    Shapes: (n, width) → (n, width − Σ L + m), with m the size of the embedded categories.

    Args:
        embedding: a module that maps the one-hot blocks of the columns (n, Σ L) to (n, m), or any other shape (n, ...).
        positions: the positions of the Σ L one-hot entries in a row, in increasing order.
        width: the number of entries of a row.

    >>> import torch
    >>> from descend.nn import LearnedCategories
    >>> layer = CategoryEmbedding(LearnedCategories([2], above=1, dimension=3), positions=(1, 2), width=4)
    >>> y = layer(torch.tensor([[7.0, 0.0, 1.0, 8.0]]))
    >>> y[:, :2].tolist(), torch.equal(y[0, 2:], layer.embedding.table0[1])
    ([[7.0, 8.0]], True)
    """

    def __init__(self, embedding: nn.Module, *, positions: Sequence[int], width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions, self.width = tuple(positions), width
        self.runs = runs_of(positions, width)

    def divided(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the one-hot entries (..., Σ L) of rows (..., width), and the other entries, if there are any."""
        return divided(rows, self.runs)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the other entries of each row, and the embedded categories."""
        onehot, others = self.divided(rows)
        embedded = cast(Tensor, self.embedding(onehot)).flatten(1)
        return embedded if others is None else joined([others.to(embedded.dtype), embedded])

    def extra_repr(self) -> str:
        """Return the sizes, for the summary of a model."""
        return f"categories={len(self.positions)}, width={self.width}"
