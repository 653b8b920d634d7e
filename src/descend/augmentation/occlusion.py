"""Occlusion of images: random erasing."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor

from descend.augmentation.base import Augmentation, row_mask, uniform
from descend.cards import method
from descend.errors import UserError
from descend.param_types import AtLeastOne, Portion, Probability

__all__ = ["Occlude", "boxes"]


def boxes(images: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return a mask of the pixels in a rectangle of each image, (b, 1, height, width) bool.

    Args:
        images: (b, channels, height, width).
        top: the first row of the rectangle, (b,).
        bottom: the row after its last one, (b,).
        left: its first column, (b,).
        right: the column after its last one, (b,).

    >>> edges = (torch.tensor([value]) for value in (0, 1, 1, 2))
    >>> boxes(torch.zeros(1, 1, 2, 2), *edges).int().tolist()
    [[[[0, 1], [0, 0]]]]
    """
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device)
    down = (rows >= top[:, None]) & (rows < bottom[:, None])
    across = (columns >= left[:, None]) & (columns < right[:, None])
    return (down[:, :, None] & across[:, None, :])[:, None]


@method(
    row="H2",
    reference="Zhong et al. 2020 (Random erasing); DeVries and Taylor 2017 (Cutout)",
    formula="x <- fill on a rectangle of area a and aspect r; a in [smallest, largest], log r in [-log ratio, log ratio]",
)
@final
class Occlude(Augmentation):
    """Random erasing: cover a random rectangle of the image.

    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        smallest: the smallest covered fraction of the area. Default 0.02.
        largest: the largest covered fraction of the area. Default 0.25.
        ratio: the largest aspect ratio of the rectangle, relative to that of the image. Default 3.
        fill: the content of the rectangle: the "mean" color of the image, "black", or "noise", uniform in [0, 1] for
            each pixel. Default "mean".
        probability: probability that an image is changed. Default 0.5.

    Raises:
        UserError: ``smallest`` is above ``largest``.

    >>> new = Occlude(fill="black", probability=1.0)(torch.ones(1, 1, 8, 8), torch.Generator())
    >>> sorted(new.unique().tolist())
    [0.0, 1.0]
    """

    def __init__(
        self,
        *,
        smallest: Portion = 0.02,
        largest: Portion = 0.25,
        ratio: AtLeastOne = 3.0,
        fill: Literal["mean", "black", "noise"] = "mean",
        probability: Probability = 0.5,
    ) -> None:
        if smallest > largest:
            raise UserError(f"occlude: smallest must not be above largest, got {smallest} and {largest}")
        self.smallest, self.largest, self.ratio = smallest, largest, ratio
        self.fill, self.probability = fill, probability

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, some of them partly covered."""
        count, (height, width) = len(inputs), inputs.shape[-2:]
        area = uniform(count, self.smallest, self.largest, inputs, generator)
        aspect = uniform(count, -math.log(self.ratio), math.log(self.ratio), inputs, generator).exp()
        tall = ((area / aspect).sqrt() * height).round().clamp(1, height)
        wide = ((area * aspect).sqrt() * width).round().clamp(1, width)
        top = (uniform(count, 0.0, 1.0, inputs, generator) * (height - tall + 1)).floor()
        left = (uniform(count, 0.0, 1.0, inputs, generator) * (width - wide + 1)).floor()
        covered = boxes(inputs, top, top + tall, left, left + wide)
        covered = covered & row_mask(inputs, self.probability, generator)
        return torch.where(covered, self._cover(inputs, generator), inputs)

    def _cover(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        if self.fill == "black":
            return inputs.new_zeros(())
        if self.fill == "mean":
            return inputs.mean((2, 3), keepdim=True)
        return torch.rand(inputs.shape, generator=generator, device=inputs.device, dtype=inputs.dtype)
