"""The networks of all PyTorch contenders, with ReLU between layers and PyTorch's initialization."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from contenders.interface import Problem

__all__ = ["convnet", "mlp", "network_of"]


def mlp(widths: Sequence[int]) -> nn.Sequential:
    """Build a multilayer perceptron: (n, widths[0]) → (n, widths[-1]) logits.

    >>> mlp([3, 2])
    Sequential(
      (0): Linear(in_features=3, out_features=2, bias=True)
    )
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def convnet(channels: Sequence[int], widths: Sequence[int], *, pool_first: bool = False) -> nn.Sequential:
    """Build a network for images (n, 1, H, W): 3 × 3 convolutions with ReLU and 2 × 2 max pooling, then dense layers.

    Args:
        channels: of each convolution.
        widths: of the dense layers, the first one being the number of values after the last pooling.
        pool_first: whether max pooling precedes ReLU, with the same outputs. Default False.

    >>> len(convnet([2], [8, 3]))
    5
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise([1, *channels]):
        after = [nn.MaxPool2d(2), nn.ReLU()] if pool_first else [nn.ReLU(), nn.MaxPool2d(2)]
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), *after]
    return nn.Sequential(*layers, nn.Flatten(), *mlp(widths))


def network_of(problem: Problem) -> nn.Sequential:
    """Build the network of a problem."""
    return convnet(problem.channels, problem.widths) if problem.channels else mlp(problem.widths)
