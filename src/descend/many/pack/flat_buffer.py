"""Stacked tensors of a pack in one contiguous vector, so that one kernel updates them all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["FlatBuffer", "per_member"]

TAIL = 128
"""Zeros at the end of a vector: more than the vector units of a processor handle at a time."""


class FlatBuffer:
    """Stacked tensors (K, …) as contiguous views of one vector, one after another.

    Args:
        like: tensors whose shapes, dtype and values are used.
        zeros: whether the values are zeros instead.

    >>> buffer = FlatBuffer([torch.ones(2, 3), torch.zeros(2, 1)])
    >>> [tuple(view.shape) for view in buffer.views]
    [(2, 3), (2, 1)]
    """

    def __init__(self, like: Sequence[Tensor], *, zeros: bool = False) -> None:
        sizes = [t.numel() for t in like]
        first = like[0]
        # Kernels compute the last few entries of a vector with other instructions, which round differently. Those
        # entries are zeros here, so that the bits of a member do not depend on the number of members.
        self.vector = torch.zeros(sum(sizes) + TAIL, dtype=first.dtype, device=first.device)
        sizes.append(TAIL)
        self.views = [part.view(t.shape) for part, t in zip(self.vector.split(sizes), like, strict=False)]
        if not zeros:
            torch._foreach_copy_(self.views, [t.detach() for t in like])

    def zeros_like(self) -> FlatBuffer:
        """Return a buffer of zeros with the same shapes."""
        return FlatBuffer(self.views, zeros=True)

    def select(self, index: Tensor) -> FlatBuffer:
        """Return a copy that holds the members with these indices."""
        return FlatBuffer([view.index_select(0, index) for view in self.views])


def per_member(values: Tensor, like: Tensor) -> Tensor:
    """Return values (K,) reshaped to (K, 1, …, 1), so that they broadcast over the members of a tensor (K, …)."""
    return values.view(-1, *([1] * (like.dim() - 1)))
