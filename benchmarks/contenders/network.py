"""The network of all PyTorch contenders: linear layers with ReLU between and PyTorch's initialization."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

__all__ = ["mlp"]


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
