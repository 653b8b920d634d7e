"""Padding layers of different widths to the widest of them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import nn

__all__ = ["padded"]


def padded(each: Sequence[Any]) -> list[nn.Module]:
    """The layers with their tensors padded to the largest, by 0, and variances by 1.

    >>> narrow, wide = padded([nn.Linear(3, 2), nn.Linear(3, 4)])
    >>> narrow.weight.shape, narrow.weight[2:].abs().sum().item()
    (torch.Size([4, 3]), 0.0)
    """
    names = [name for name, t in [*each[0].named_parameters(), *each[0].named_buffers()] if t.dim()]
    largest = {
        name: [max(sizes) for sizes in zip(*(getattr(one, name).shape for one in each), strict=True)]
        for name in names
    }
    made = []
    for layer in each:
        if all(list(getattr(layer, name).shape) == largest[name] for name in names):
            made.append(layer)
            continue
        wide = copy.deepcopy(layer)
        for name in names:
            own = getattr(layer, name).detach()
            ones = name == "running_var"
            fresh = own.new_full(largest[name], 1.0 if ones else 0.0)
            fresh[tuple(slice(0, size) for size in own.shape)] = own
            held = wide._parameters if name in wide._parameters else wide._buffers
            held[name] = nn.Parameter(fresh) if held is wide._parameters else fresh
        made.append(wide)
    return made
