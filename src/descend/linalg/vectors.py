"""Conversion between a list of tensors and one flat vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["flat", "views", "wide"]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """Concatenate the entries of all tensors into a new vector.

    Args:
        tensors: tensors of any shapes, with the same dtype and device.

    >>> flat([torch.tensor([[1.0, 2.0]]), torch.tensor(3.0)])
    tensor([1., 2., 3.])
    """
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Split a vector into views with the shapes of ``like``; the views share the vector's memory.

    Args:
        vector: vector with as many entries as all of ``like``.
        like: tensors that define the shapes.

    Raises:
        ValueError: the vector has more or fewer entries.

    >>> [part.tolist() for part in views(torch.arange(3.0), [torch.zeros(1, 2), torch.zeros(())])]
    [[[0.0, 1.0]], 2.0]
    """
    sizes = [tensor.numel() for tensor in like]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"expected a vector of {sum(sizes)} entries, got shape {tuple(vector.shape)}")
    return [part.view(each.shape) for part, each in zip(vector.split(sizes), like, strict=True)]


def wide(vector: Tensor) -> Tensor:
    """Convert a vector of half precision to single precision; others are returned unchanged.

    Triangular systems have no kernel in half precision, and sums of many products lose most of their digits.

    >>> wide(torch.ones(1, dtype=torch.bfloat16)).dtype, wide(torch.ones(1, dtype=torch.float64)).dtype
    (torch.float32, torch.float64)
    """
    return vector.to(torch.promote_types(vector.dtype, torch.float32))
