"""Embeddings of the categories of a row in a pack."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from descend.nn import CategoryEmbedding, LearnedCategories

__all__ = ["PackedCategoryEmbedding"]


class PackedCategoryEmbedding(nn.Module):
    """Embeddings of categories for each member: (K, B, width) → (K, B, m).

    Each column is one batched product of the members' one-hot blocks with their stacked tables.

    Args:
        layers: the K layers, with embeddings of the same columns and dimensions.

    >>> layers = [CategoryEmbedding(LearnedCategories([3], above=2), positions=(0, 1, 2), width=4) for _ in range(5)]
    >>> x = torch.eye(4).expand(5, 4, 4)
    >>> torch.allclose(PackedCategoryEmbedding(layers)(x)[1], layers[1](x[1]), atol=1e-6)
    True
    """

    def __init__(self, layers: Sequence[CategoryEmbedding]) -> None:
        super().__init__()
        self._plain = (
            copy.deepcopy(layers[0]),
        )  # in a tuple, so that its own tensors are not among those of this module
        for name, _ in layers[0].embedding.named_parameters():
            own = [cast(Tensor, getattr(layer.embedding, name)).detach() for layer in layers]
            self.register_parameter(name, nn.Parameter(torch.stack(own)))

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, width) → (K, B, m)."""
        (plain,) = self._plain
        learned = cast(LearnedCategories, plain.embedding)
        onehot, others = plain.divided(x)
        blocks = list(torch.split(onehot, list(learned.levels), dim=-1))
        for at in learned.embedded:
            table = cast(Tensor, getattr(self, f"table{at}"))
            blocks[at] = torch.bmm(blocks[at].to(table.dtype), table)
        first = [] if others is None else [others.to(blocks[0].dtype)]
        # Contiguous for each member: the rounding of later operations depends on strides.
        return torch.cat([*first, *blocks], dim=-1)
