"""Embeddings of the numbers of a row in a pack."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from descend.nn import LinearEmbedding, NumberEmbedding, PeriodicEmbedding, PiecewiseLinearEmbedding

__all__ = ["PACKED_EMBEDDINGS", "PackedNumberEmbedding"]

PACKED_EMBEDDINGS: tuple[type[nn.Module], ...] = (
    LinearEmbedding,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
)
"""Embeddings that treat each number independently, so that the numbers of all members can be embedded as those of one row."""


class PackedNumberEmbedding(nn.Module):
    """Embeddings of numbers for each member: (K, B, width) → (K, B, m + width − d).

    The numbers of all members are one row of K d numbers, embedded at once with stacked weights, bins and frequencies.

    Args:
        layers: the K layers, with embeddings of the same kind, settings and sizes.

    >>> layers = [NumberEmbedding(LinearEmbedding(2, dimension=3), positions=(0, 2), width=4) for _ in range(5)]
    >>> x = torch.randn(5, 7, 4)
    >>> torch.allclose(PackedNumberEmbedding(layers)(x)[1], layers[1](x[1]), atol=1e-6)
    True
    """

    def __init__(self, layers: Sequence[NumberEmbedding]) -> None:
        super().__init__()
        self._plain = (
            copy.deepcopy(layers[0]),
        )  # in a tuple, so that its own tensors are not among those of this module
        embeddings = [layer.embedding for layer in layers]
        for name, _ in embeddings[0].named_parameters():
            own = [cast(Tensor, getattr(each, name)).detach() for each in embeddings]
            self.register_parameter(name, nn.Parameter(torch.stack(own)))
        for name, _ in embeddings[0].named_buffers():
            self.register_buffer(
                name, torch.stack([cast(Tensor, getattr(each, name)) for each in embeddings])
            )

    def forward(self, x: Tensor) -> Tensor:
        """(K, B, width) → (K, B, m + width − d)."""
        (plain,) = self._plain
        members, rows = x.shape[:2]
        numbers, others = plain.divided(x)
        tensors = {
            name: t.flatten(0, 1)
            for name, t in [*self._parameters.items(), *self._buffers.items()]
            if t is not None
        }
        one_row = numbers.transpose(0, 1).reshape(rows, -1)
        embedded = cast(Tensor, functional_call(plain.embedding, tensors, (one_row,)))
        result = embedded.reshape(rows, members, -1).transpose(0, 1)
        # Contiguous for each member: the rounding of later operations depends on strides.
        return result.contiguous() if others is None else torch.cat([result, others.to(result.dtype)], dim=-1)
