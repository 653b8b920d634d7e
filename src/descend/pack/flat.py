"""Tensors of a pack in one piece of memory, so that one kernel updates them all."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Flat", "spread"]


class Flat:
    """Stacked tensors (K, …) as contiguous views of one vector, one after another.

    >>> flat = Flat([torch.ones(2, 3), torch.zeros(2, 1)])
    >>> flat.vector.shape, flat.views[0].shape
    (torch.Size([8]), torch.Size([2, 3]))
    """

    def __init__(self, like: Sequence[Tensor], *, zeros: bool = False) -> None:
        sizes = [t.numel() for t in like]
        first = like[0]
        self.vector = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        self.views = [part.view(t.shape) for part, t in zip(self.vector.split(sizes), like, strict=True)]
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
