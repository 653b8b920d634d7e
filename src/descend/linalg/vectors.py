"""Conversion between a list of tensors and one flat vector."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["bounded", "flat", "views", "wide"]


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


def bounded(tensor: Tensor) -> Tensor:
    """Scale the finite entries of a tensor down if sums of their squares could overflow; otherwise return it unchanged.

    Squares of a gradient above 2e19 are infinite in float32, and a covariance with an infinite entry has only NaN for
    its roots and inverses. Here sums of squares are at most the 3/4th power of the largest number, which leaves room for
    products with them. NaN and infinities are kept, so that their origin can be found. It does not synchronize with a GPU.

    Args:
        tensor: of any shape.

    >>> bounded(torch.tensor([3e20, 4e20])).square().sum().isfinite(), bounded(torch.tensor([3.0, 4.0]))
    (tensor(True), tensor([3., 4.]))
    """
    if tensor.numel() == 0:
        return tensor
    largest = torch.linalg.vector_norm(tensor, math.inf)
    limit = (torch.finfo(tensor.dtype).max ** 0.75 / tensor.numel()) ** 0.5
    # The comparison is false for NaN.
    exceeds = (largest > limit) & torch.isfinite(largest)
    if tensor.device.type == "cpu" and not exceeds:
        return tensor
    return tensor * torch.where(exceeds, limit / largest, 1.0)
