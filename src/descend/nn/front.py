"""A layer in front of a network."""

from __future__ import annotations

from torch import nn

__all__ = ["preceded"]


def preceded(network: nn.Module, name: str, front: nn.Module) -> nn.Sequential:
    """Return a network that applies a layer first, under a name.

    The layers of an ``nn.Sequential`` keep their names; another module becomes ``network``.

    >>> joined = preceded(nn.Sequential(nn.Linear(2, 1)), "numbers", nn.Identity())
    >>> [name for name, _ in joined.named_children()]
    ['numbers', '0']
    """
    joined = nn.Sequential()
    joined.add_module(name, front)
    if type(network) is nn.Sequential and name not in dict(network.named_children()):
        for child_name, child in network.named_children():
            joined.add_module(child_name, child)
    else:
        joined.add_module("network", network)
    return joined
