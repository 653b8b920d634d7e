"""Elastic deformation of images."""

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


def displaced(images: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Read pixel (i, j) of images at (i + down, j + right), by bilinear interpolation; outside is black.

    Args:
        images: (b, channels, height, width).
        down: displacement in pixels, (b, height, width).
        right: displacement in pixels, (b, height, width).

    >>> line, none = torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.zeros(1, 1, 3)
    >>> displaced(line, none, none + 1).round(decimals=4).tolist()
    [[[[2.0, 3.0, 0.0]]]]
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] + down
    columns = torch.arange(width, device=images.device, dtype=images.dtype) + right
    # Grid coordinates -1 and 1 are the outer edges of the first and the last pixel.
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], 1)
    grid = grid.permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


@method(
    row="H2",
    reference="Simard, Steinkraus and Platt 2003",
    formula="x(v + u(v)), u = pixels G_s * e / std(G_s * e), e uniform in [-1, 1]",
    note="the paper scales the smoothed field by a constant; here the constant is chosen such that the root mean "
    "square of each displacement is 'pixels' for any smoothness.",
)
@final
class Deform(Augmentation):
    """Elastic deformation: displace every pixel by a smooth random field.

    The two components of the field are independent uniform noise, smoothed by a Gaussian that is mirrored at the
    edges, and divided by its standard deviation, which is known in closed form at each pixel. Pixels outside the image
    are black.
    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        pixels: root mean square of the displacement along each axis, in pixels. Default 1.
        smoothness: standard deviation of the Gaussian in pixels, the correlation length of the field. Default 4.

    >>> Deform(pixels=0.0)(torch.ones(1, 1, 2, 2), torch.Generator()).round(decimals=4).tolist()
    [[[[1.0, 1.0], [1.0, 1.0]]]]
    """

    def __init__(self, *, pixels: NonNegative = 1.0, smoothness: Positive = 4.0) -> None:
        self.pixels, self.smoothness = pixels, smoothness

    def field(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return displacements in pixels for a batch of images, down and right, (2, b, height, width)."""
        height, width = inputs.shape[-2:]
        shape = (2, len(inputs), height, width)
        noise = torch.rand(shape, generator=generator, device=inputs.device, dtype=inputs.dtype) * 2 - 1
        smoothness = noise.new_full((1,), self.smoothness)
        down, across = (gaussian_matrices(side, smoothness, self.smoothness)[0] for side in (height, width))
        variance = (
            torch.outer(down.square().sum(1), across.square().sum(1)) / 3
        )  # the variance of uniform noise is 1/3
        return (down @ noise @ across.T) * (self.pixels / variance.sqrt())

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each deformed by its own field."""
        down, right = self.field(inputs, generator)
        return displaced(inputs, down, right)
