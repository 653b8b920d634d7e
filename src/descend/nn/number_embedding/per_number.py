"""A linear map of its own for each number of a row."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["activated", "mapped", "uniform"]


def mapped(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x_j W_j + b_j for each number j, as one batched product: (n, d, k), (d, k, e), (d, e) → (n, d, e).

    >>> mapped(torch.ones(5, 2, 3), torch.ones(2, 3, 4), torch.zeros(2, 4)).shape
    torch.Size([5, 2, 4])
    """
    return torch.baddbmm(bias.unsqueeze(1), x.transpose(0, 1), weight).transpose(0, 1)


def activated(x: Tensor, activation: str) -> Tensor:
    """Return max(x, 0) for "relu", and x for "none"."""
    return torch.relu(x) if activation == "relu" else x


def uniform(*shape: int, inputs: int) -> nn.Parameter:
    """Return a parameter with entries U(-1/√k, 1/√k) for k inputs, as of ``torch.nn.Linear``."""
    bound = 1.0 / math.sqrt(max(1, inputs))
    return nn.Parameter(torch.empty(shape).uniform_(-bound, bound))
