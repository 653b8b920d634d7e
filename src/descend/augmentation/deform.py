"""Elastic deformation of pictures."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from descend.augmentation.base import Augmentation
from descend.augmentation.blur import gaussian_matrices
from descend.cards import method
from descend.param_types import NonNegative, Positive

__all__ = ["Deform", "displaced"]


def displaced(pictures: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Pictures whose pixel (i, j) is read at (i + down, j + right), by bilinear interpolation; outside is black.

    Args:
        pictures: (b, channels, height, width).
        down: in pixels, (b, height, width).
        right: likewise.

    >>> line, none = torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.zeros(1, 1, 3)
    >>> displaced(line, none, none + 1).round(decimals=4).tolist()
    [[[[2.0, 3.0, 0.0]]]]
    """
    height, width = pictures.shape[-2:]
    rows = torch.arange(height, device=pictures.device, dtype=pictures.dtype)[:, None] + down
    columns = torch.arange(width, device=pictures.device, dtype=pictures.dtype) + right
    # A grid's -1 and 1 are the outer edges of the first and the last pixel.
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], 1)
    grid = grid.permute(0, 2, 3, 1)
    return functional.grid_sample(pictures, grid, padding_mode="zeros", align_corners=False)


@method(
    row="H2",
    reference="Simard, Steinkraus and Platt 2003",
    formula="x(v + u(v)), u = pixels G_s * e / std(G_s * e), e uniform in [-1, 1]",
    note="the paper scales the smoothed field by a constant; here the constant is such that the root mean square "
    "of each displacement is 'pixels', whatever the smoothness.",
)
@final
class Deform(Augmentation):
    """Elastic deformation: every pixel is moved by a smooth random field.

    The field's two components are independent uniform noise, smoothed by a Gaussian that is mirrored at the
    edges, and divided by its standard deviation, which is known in closed form at each pixel. What comes in
    from outside is black.
    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        pixels: root mean square of the displacement along each axis, in pixels. Default 1.
        smoothness: standard deviation of the Gaussian, in pixels: how far apart pixels move together. Default 4.

    >>> Deform(pixels=0.0)(torch.ones(1, 1, 2, 2), torch.Generator()).round(decimals=4).tolist()
    [[[[1.0, 1.0], [1.0, 1.0]]]]
    """

    def __init__(self, *, pixels: NonNegative = 1.0, smoothness: Positive = 4.0) -> None:
        self.pixels, self.smoothness = pixels, smoothness

    def field(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """Displacements in pixels for a batch of pictures, down and right, (2, b, height, width)."""
        height, width = inputs.shape[-2:]
        shape = (2, len(inputs), height, width)
        noise = torch.rand(shape, generator=draw, device=inputs.device, dtype=inputs.dtype) * 2 - 1
        smoothness = noise.new_full((1,), self.smoothness)
        down, across = (gaussian_matrices(side, smoothness, self.smoothness)[0] for side in (height, width))
        variance = torch.outer(down.square().sum(1), across.square().sum(1)) / 3  # of uniform noise: 1/3
        return (down @ noise @ across.T) * (self.pixels / variance.sqrt())

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, each deformed by its own field."""
        down, right = self.field(inputs, draw)
        return displaced(inputs, down, right)
