"""The layer in front of a network that embeds the numbers of a row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, final

import torch
from torch import Tensor, nn

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

    >>> from descend.nn import LinearEmbedding
    >>> layer = NumberEmbedding(LinearEmbedding(2, dimension=3), positions=(0, 2), width=4)
    >>> layer(torch.tensor([[1.0, 7.0, 2.0, 8.0]]))[:, 6:].tolist()
    [[7.0, 8.0]]
    """

    def __init__(self, embedding: nn.Module, *, positions: Sequence[int], width: int) -> None:
        super().__init__()
        self.embedding = embedding
        self.positions, self.width = tuple(positions), width
        chosen = set(positions)
        runs: list[tuple[bool, int]] = []  # whether entries are numbers, and how many follow each other
        for at in range(width):
            if runs and runs[-1][0] == (at in chosen):
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((at in chosen, 1))
        self.runs = tuple(runs)

    def divided(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the numbers (..., d) of rows (..., width), and the other entries, if there are any."""
        pieces = torch.split(rows, [count for _, count in self.runs], dim=-1)
        numbers, others = (
            [piece for piece, (chosen, _) in zip(pieces, self.runs, strict=True) if chosen == wanted]
            for wanted in (True, False)
        )
        return _joined(numbers), _joined(others) if others else None

    def forward(self, rows: Tensor) -> Tensor:
        """Return the embedded numbers and the other entries of each row."""
        numbers, others = self.divided(rows)
        embedded = cast(Tensor, self.embedding(numbers)).flatten(1)
        return embedded if others is None else torch.cat([embedded, others.to(embedded.dtype)], dim=-1)

    def extra_repr(self) -> str:
        """Return the sizes, for the summary of a model."""
        return f"numbers={len(self.positions)}, width={self.width}"


def _joined(pieces: Sequence[Tensor]) -> Tensor:
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=-1)
