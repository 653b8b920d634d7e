"""Lists of tensors as one vector: what lies in many places, flat, and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["flat", "views"]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """The entries of all tensors, one after the other, as a new vector.

    Args:
        tensors: of any shapes, one dtype and one device.

    >>> flat([torch.tensor([[1.0, 2.0]]), torch.tensor(3.0)])
    tensor([1., 2., 3.])
    """
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def views(vector: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The parts of a vector in the shapes of ``like``; nothing is copied, so that a change of a part changes the vector.

    Args:
        vector: with as many entries as all of ``like``.
        like: tensors whose shapes are taken.

    Raises:
        ValueError: the vector has more or fewer entries.

    >>> [part.tolist() for part in views(torch.arange(3.0), [torch.zeros(1, 2), torch.zeros(())])]
    [[[0.0, 1.0]], 2.0]
    """
    sizes = [tensor.numel() for tensor in like]
    if vector.shape != (sum(sizes),):
        raise ValueError(f"a vector of {sum(sizes)} entries is needed, this has shape {tuple(vector.shape)}")
    return [part.view(each.shape) for part, each in zip(vector.split(sizes), like, strict=True)]
