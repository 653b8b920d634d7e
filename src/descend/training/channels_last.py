"""Images with channels last in memory, the order in which a CPU computes convolutions and pooling fastest."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["channels_last", "convolves"]


def channels_last(x: Tensor) -> Tensor:
    """Return images (n, C, H, W) in channels-last (NHWC) order, and a tensor of any other shape unchanged.

    PyTorch's layers infer the order from the strides and return their outputs in the same order. Where images have a
    single channel or a single pixel, both orders are the same memory, and PyTorch does not change the strides; the result
    is then a view with the strides of channels-last.

    >>> channels_last(torch.zeros(2, 1, 4, 5)).stride()
    (20, 1, 5, 1)
    >>> channels_last(torch.zeros(2, 3, 4, 5)).stride()
    (60, 1, 15, 3)
    """
    if x.dim() != 4:
        return x
    x = x.contiguous(memory_format=torch.channels_last)
    _, channels, height, width = x.shape
    strides = (channels * height * width, 1, channels * width, channels)
    return x if x.stride() == strides else x.as_strided(x.shape, strides)


def convolves(model: nn.Module) -> bool:
    """Whether a network contains two-dimensional convolutions, and so computes faster in channels-last order.

    >>> convolves(nn.Sequential(nn.Conv2d(1, 2, 3))), convolves(nn.Linear(1, 2))
    (True, False)
    """
    return any(isinstance(module, nn.Conv2d) for module in model.modules())
