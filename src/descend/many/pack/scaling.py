"""Layers of a pack with one learned factor for each entry of a row."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from descend.nn import ParametricActivation, Scaling

__all__ = ["PackedParametricActivation", "PackedScaling"]


class PackedScaling(nn.Module):
    """Scaling layers: (K, B, d) → (K, B, d), weight (K, d)."""

    def __init__(self, layers: Sequence[Scaling]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * self.weight.unsqueeze(1)


class PackedParametricActivation(nn.Module):
    """Parametric activations with the same function: (K, B, d) → (K, B, d), weight (K, d)."""

    def __init__(self, layers: Sequence[ParametricActivation]) -> None:
        super().__init__()
        self.function = copy.deepcopy(layers[0].function)
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return torch.addcmul(x, self.weight.unsqueeze(1), cast(Tensor, self.function(x)) - x)
