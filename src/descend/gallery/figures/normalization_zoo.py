"""Normalization layers: which entries of a tensor share a mean and a variance.

The sets are found by differentiation instead of from the definition: an entry of a tensor (N, C, H, W) belongs to the
set of an output if the output changes with it. The same layers show whether a row depends on the rest of its batch.

Source: Wu and He, "Group normalization", 2018, figure 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from descend.gallery.intervals import exact
from descend.gallery.picture import Axis, Cells, Panel, Picture, numbers
from descend.nn.normalization import batch, group, instance, layer
from descend.rng import generator

__all__ = ["SHAPE", "Measurement", "expected", "measure", "picture"]

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
    """Return the number of entries that share a mean, from the definition."""
    n, c, h, w = SHAPE
    return {"batch": n * h * w, "layer": c * h * w, "instance": h * w, "group": c // GROUPS * h * w}[name]


@dataclass(frozen=True)
class Measurement:
    """By norm, the entries that one output depends on, and the dependence of a row on its batch.

    Args:
        shares: fraction of the positions that one output depends on, (N, C).
        moved: largest change of a row when the other rows change.
    """

    shares: dict[str, Tensor]
    moved: dict[str, float]

    def size(self, name: str) -> int:
        """Return the number of entries that one output depends on."""
        return round(float(self.shares[name].sum()) * SHAPE[2] * SHAPE[3])


def measure(seed: int = 0) -> Measurement:
    """Differentiate one output of each layer, and replace the other rows of the batch.

    Args:
        seed: seed of the entries.
    """
    rng = generator(seed, "gallery/normalization_zoo")
    x, other = (torch.randn(SHAPE, generator=rng, dtype=torch.float64) for _ in range(2))
    shares, moved = {}, {}
    for name, make in LAYERS.items():
        norm: nn.Module = make().double().train()
        point = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(norm(point)[1, 1, 0, 0], point)
        shares[name] = (gradient != 0).double().mean((2, 3))
        changed = torch.cat([x[:1], other[1:]])
        moved[name] = float((norm(x)[0] - norm(changed)[0]).detach().abs().max())
    return Measurement(shares, moved)


def picture(result: Measurement) -> Picture:
    """Return a table of rows and channels for each norm."""
    panels = []
    for name, shares in result.shares.items():
        panels.append(
            Panel(
                f"{name[:1].upper()}{name[1:]} norm",
                (Cells(tuple(numbers(row) for row in shares), text=_marked(shares)),),
                Axis("channel C", ticks=False),
                Axis("row of the batch N", ticks=False),
                note=f"{result.size(name)} entries share a mean and a variance. A row "
                + (
                    "depends on the other rows of its batch."
                    if result.moved[name] > 0
                    else "does not depend on the rest of its batch."
                ),
            )
        )
    sizes = ", ".join(f"{name} {result.size(name)}" for name in result.shares)
    independent = all(result.moved[name] == 0.0 for name in ("layer", "instance", "group"))
    return Picture(
        name="normalization_zoo",
        title="Normalization layers",
        claim="Normalization layers differ in the direction or group of the tensor that shares a mean and a variance. Layer and "
        "group norm allow small batches, and are the same in training and evaluation.",
        see="A colored cell is a channel of a row, with all its positions, on which the output marked by a dot depends: a "
        "column for batch norm, a row for layer norm, one cell for instance norm, a part of a row for group norm.",
        number="change of a row under batch norm when the other rows change",
        value=exact(result.moved["batch"]),
        finding=f"In a tensor of {' × '.join(map(str, SHAPE))} an output depends on this number of entries: "
        f"{sizes}. When the other "
        f"rows of the batch change, a row changes by {result.moved['batch']:.2f} under batch norm and by exactly "
        f"{max(result.moved[name] for name in ('layer', 'instance', 'group')):g} under the others.",
        supported=independent
        and result.moved["batch"] > 0.0
        and all(result.size(name) == expected(name) for name in result.shares),
        panels=tuple(panels),
    )


def _marked(shares: Tensor) -> tuple[tuple[str, ...], ...]:
    return tuple(
        tuple("●" if (row, channel) == (1, 1) else "" for channel in range(shares.shape[1]))
        for row in range(shares.shape[0])
    )
