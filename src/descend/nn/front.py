"""A layer in front of a network, which may treat some entries of a row and leave the others unchanged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["divided", "joined", "preceded", "runs_of"]

Runs = tuple[tuple[bool, int], ...]
"""The entries of a row as runs: whether the entries of a run are chosen, and how many follow each other."""


def runs_of(positions: Sequence[int], width: int) -> Runs:
    """Return the runs of a row of some width in which the entries at some positions are chosen.

    >>> runs_of((0, 1, 3), 4)
    ((True, 2), (False, 1), (True, 1))
    """
    chosen = set(positions)
    runs: list[tuple[bool, int]] = []
    for at in range(width):
        if runs and runs[-1][0] == (at in chosen):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((at in chosen, 1))
    return tuple(runs)


def divided(rows: Tensor, runs: Runs) -> tuple[Tensor, Tensor | None]:
    """Return the chosen entries of rows (..., width), and the other entries, if there are any."""
    pieces = torch.split(rows, [count for _, count in runs], dim=-1)
    chosen, others = (
        [piece for piece, (is_chosen, _) in zip(pieces, runs, strict=True) if is_chosen == wanted]
        for wanted in (True, False)
    )
    return joined(chosen), joined(others) if others else None


def joined(pieces: Sequence[Tensor]) -> Tensor:
    """Return pieces of rows as one; a single piece is returned as it is."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=-1)


def preceded(network: nn.Module, name: str, front: nn.Module) -> nn.Sequential:
    """Return a network that applies a layer first, under a name.

    The layers of an ``nn.Sequential`` keep their names; another module becomes ``network``.

    >>> layers = preceded(nn.Sequential(nn.Linear(2, 1)), "numbers", nn.Identity())
    >>> [name for name, _ in layers.named_children()]
    ['numbers', '0']
    """
    layers = nn.Sequential()
    layers.add_module(name, front)
    if type(network) is nn.Sequential and name not in dict(network.named_children()):
        for child_name, child in network.named_children():
            layers.add_module(child_name, child)
    else:
        layers.add_module("network", network)
    return layers
