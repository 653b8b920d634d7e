"""Padding of layers of different widths to the widest of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

__all__ = ["padded"]


def padded(layers: Sequence[Any]) -> list[nn.Module]:
    """Return the layers with each tensor padded to its largest size: with 1 for running variances, otherwise with 0.

    Layers that already have the largest size are returned as they are; the others are copied.

    >>> narrow, wide = padded([nn.Linear(3, 2), nn.Linear(3, 4)])
    >>> narrow.weight.shape, narrow.weight[2:].abs().sum().item()
    (torch.Size([4, 3]), 0.0)
    """
    names = [name for name, t in [*layers[0].named_parameters(), *layers[0].named_buffers()] if t.dim()]
    largest = {
        name: [max(sizes) for sizes in zip(*(getattr(layer, name).shape for layer in layers), strict=True)]
        for name in names
    }
    result = []
    for layer in layers:
        if all(list(getattr(layer, name).shape) == largest[name] for name in names):
            result.append(layer)
            continue
        wide = copy.deepcopy(layer)
        for name in names:
            own = getattr(layer, name).detach()
            filled = own.new_full(largest[name], 1.0 if name == "running_var" else 0.0)
            filled[tuple(slice(0, size) for size in own.shape)] = own
            registry = wide._parameters if name in wide._parameters else wide._buffers
            registry[name] = nn.Parameter(filled) if registry is wide._parameters else filled
        result.append(wide)
    return result
