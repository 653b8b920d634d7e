"""Parts of pictures covered."""

from __future__ import annotations

import math
from typing import Literal, final

import torch
from torch import Tensor

from descend.augmentation.base import Augmentation, chosen, uniform
from descend.cards import method
from descend.errors import UserError
from descend.param_types import AtLeastOne, Portion, Probability

__all__ = ["Occlude", "boxes"]


def boxes(pictures: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Which pixels lie in a rectangle of each picture, (b, 1, height, width) bool.

    Args:
        pictures: (b, channels, height, width).
        top: its first row, (b,).
        bottom: the row after its last.
        left: its first column.
        right: the column after its last.

    >>> edges = (torch.tensor([value]) for value in (0, 1, 1, 2))
    >>> boxes(torch.zeros(1, 1, 2, 2), *edges).int().tolist()
    [[[[0, 1], [0, 0]]]]
    """
    height, width = pictures.shape[-2:]
    rows = torch.arange(height, device=pictures.device)
    columns = torch.arange(width, device=pictures.device)
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
    """A rectangle covered, somewhere in the picture.

    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        smallest: the least share of the area that is covered. Default 0.02.
        largest: the largest share. Default 0.25.
        ratio: the largest ratio of the rectangle's sides, in units of the picture's. Default 3.
        fill: what covers it: the picture's "mean" colour, "black", or "noise", uniform in [0, 1] for each
            pixel. Default "mean".
        probability: that a picture is changed. Default 0.5.

    Raises:
        UserError: the smallest share is above the largest.

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
            raise UserError(f"occlude: smallest must not be above largest; found {smallest} and {largest}")
        self.smallest, self.largest, self.ratio = smallest, largest, ratio
        self.fill, self.probability = fill, probability

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, some of them covered in part."""
        count, (height, width) = len(inputs), inputs.shape[-2:]
        area = uniform(count, self.smallest, self.largest, inputs, draw)
        aspect = uniform(count, -math.log(self.ratio), math.log(self.ratio), inputs, draw).exp()
        tall = ((area / aspect).sqrt() * height).round().clamp(1, height)
        wide = ((area * aspect).sqrt() * width).round().clamp(1, width)
        top = (uniform(count, 0.0, 1.0, inputs, draw) * (height - tall + 1)).floor()
        left = (uniform(count, 0.0, 1.0, inputs, draw) * (width - wide + 1)).floor()
        covered = boxes(inputs, top, top + tall, left, left + wide)
        covered = covered & chosen(inputs, self.probability, draw)
        return torch.where(covered, self._cover(inputs, draw), inputs)

    def _cover(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        if self.fill == "black":
            return inputs.new_zeros(())
        if self.fill == "mean":
            return inputs.mean((2, 3), keepdim=True)
        return torch.rand(inputs.shape, generator=draw, device=inputs.device, dtype=inputs.dtype)
