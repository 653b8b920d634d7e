"""Tensors of a pack in one piece of memory, so that one kernel updates them all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Flat", "spread"]

END = 128
"""Zeros at the end of a vector: more than the processor's vector units handle at a time."""


class Flat:
    """Stacked tensors (K, …) as contiguous views of one vector, one after another.

    >>> flat = Flat([torch.ones(2, 3), torch.zeros(2, 1)])
    >>> [tuple(view.shape) for view in flat.views]
    [(2, 3), (2, 1)]
    """

    def __init__(self, like: Sequence[Tensor], *, zeros: bool = False) -> None:
        sizes = [t.numel() for t in like]
        first = like[0]
        # Kernels handle the last few numbers of a vector by other instructions, which round differently. Zeros
        # stand there, so that a member's bits do not depend on how many others there are.
        self.vector = torch.zeros(sum(sizes) + END, dtype=first.dtype, device=first.device)
        sizes.append(END)
        self.views = [part.view(t.shape) for part, t in zip(self.vector.split(sizes), like, strict=False)]
        if not zeros:
            torch._foreach_copy_(self.views, [t.detach() for t in like])

    def twin(self) -> Flat:
        """Zeros of the same shapes."""
        return Flat(self.views, zeros=True)

    def select(self, index: Tensor) -> Flat:
        """The members of some places, copied."""
        return Flat([view.index_select(0, index) for view in self.views])


def spread(values: Tensor, like: Tensor) -> Tensor:
    """Values (K,) in a shape that multiplies a tensor (K, …) member by member."""
    return values.view(-1, *([1] * (like.dim() - 1)))
