"""The zoo of normalisations: which numbers share a mean and a variance.

Not drawn from the definition but found by differentiating: an entry of a tensor (N, C, H, W) belongs to the set
of an output if the output changes with it. The same layers show whether a row depends on its batch.

Source: Wu and He, "Group normalization", 2018, figure 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from descend.gallery.picture import Axis, Cells, Panel, Picture, numbers
from descend.gallery.spread import exact
from descend.nn.normalization import batch, group, instance, layer
from descend.rng import generator

__all__ = ["SHAPE", "Measured", "expected", "measure", "picture"]

SHAPE = (4, 6, 2, 3)
"""N rows, C channels, height and width."""

GROUPS = 2

LAYERS: dict[str, Any] = {
    "batch": lambda: batch(SHAPE[1], dims=2),
    "layer": lambda: layer(SHAPE[1], dims=2),
    "instance": lambda: instance(SHAPE[1], dims=2),
    "group": lambda: group(SHAPE[1], dims=2, groups=GROUPS),
}


def expected(name: str) -> int:
    """How many numbers share a mean, from the definition."""
    n, c, h, w = SHAPE
    return {"batch": n * h * w, "layer": c * h * w, "instance": h * w, "group": c // GROUPS * h * w}[name]


@dataclass(frozen=True)
class Measured:
    """By norm: (N, C) shares of the positions that one output depends on; how far a row moves with its batch."""

    shares: dict[str, Tensor]
    moved: dict[str, float]

    def size(self, name: str) -> int:
        """How many numbers one output depends on."""
        return round(float(self.shares[name].sum()) * SHAPE[2] * SHAPE[3])


def measure(seed: int = 0) -> Measured:
    """Differentiate one output of each layer, and change the other rows of the batch.

    Args:
        seed: the numbers in the tensor.
    """
    draws = generator(seed, "gallery/normalization_zoo")
    x, other = (torch.randn(SHAPE, generator=draws, dtype=torch.float64) for _ in range(2))
    shares, moved = {}, {}
    for name, make in LAYERS.items():
        norm: nn.Module = make().double().train()
        point = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(norm(point)[1, 1, 0, 0], point)
        shares[name] = (slope != 0).double().mean((2, 3))
        changed = torch.cat([x[:1], other[1:]])
        moved[name] = float((norm(x)[0] - norm(changed)[0]).detach().abs().max())
    return Measured(shares, moved)


def picture(found: Measured) -> Picture:
    """A table of rows and channels for each norm."""
    panels = []
    for name, shares in found.shares.items():
        panels.append(
            Panel(
                f"{name[:1].upper()}{name[1:]} norm",
                (Cells(tuple(numbers(row) for row in shares), text=_marked(shares)),),
                Axis("channel C", ticks=False),
                Axis("row of the batch N", ticks=False),
                note=f"{found.size(name)} numbers share a mean and a variance. A row "
                + (
                    "depends on the others of its batch."
                    if found.moved[name] > 0
                    else "does not depend on its batch."
                ),
            )
        )
    sizes = ", ".join(f"{name} {found.size(name)}" for name in found.shares)
    alone = all(found.moved[name] == 0.0 for name in ("layer", "instance", "group"))
    return Picture(
        name="normalization_zoo",
        title="The zoo of normalisations",
        claim="Normalisations differ in the direction or group of the tensor that shares a mean and a variance. Layer and "
        "group norm allow small batches, and are the same in training and evaluation.",
        see="A coloured cell is a channel of a row, with all its positions, that the output marked with a dot depends on: a "
        "column for batch norm, a row for layer norm, one cell for instance norm, a part of a row for group norm.",
        number="change of a row, under batch norm, when the others change",
        value=exact(found.moved["batch"]),
        finding=f"Of a tensor of {' × '.join(map(str, SHAPE))} an output depends on: {sizes} numbers. When the other rows "
        f"of the batch change, a row moves by {found.moved['batch']:.2f} under batch norm and by exactly "
        f"{max(found.moved[name] for name in ('layer', 'instance', 'group')):g} under the others.",
        supported=alone
        and found.moved["batch"] > 0.0
        and all(found.size(name) == expected(name) for name in found.shares),
        panels=tuple(panels),
    )


def _marked(shares: Tensor) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple("●" if (row, channel) == (1, 1) else "" for channel in range(shares.shape[1]))
        for row in range(shares.shape[0])
    )
