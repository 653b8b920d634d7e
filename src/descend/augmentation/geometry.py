"""Where things are in a picture: flips, shifts, turns, crops."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from descend.augmentation.base import Augmentation, chosen, uniform
from descend.cards import method
from descend.param_types import AtLeastOne, Natural, NonNegative, Portion, Probability

__all__ = ["Crop", "Flip", "Rotate", "Translate", "cropped", "rotated", "shifted"]


@method(row="H2", reference="folklore", formula="x[..., ::-1] with probability p")
@final
class Flip(Augmentation):
    """Mirror images: left and right swapped, or top and bottom.

    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        horizontal: probability that left and right are swapped. Default 0.5.
        vertical: probability that top and bottom are swapped. Default 0.

    >>> Flip(horizontal=1.0)(torch.tensor([[[[1.0, 2.0]]]]), torch.Generator()).tolist()
    [[[[2.0, 1.0]]]]
    """

    def __init__(self, *, horizontal: Probability = 0.5, vertical: Probability = 0.0) -> None:
        self.horizontal, self.vertical = horizontal, vertical

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, some of them flipped."""
        for axis, probability in ((-1, self.horizontal), (-2, self.vertical)):
            if probability:
                mirrored = inputs.flip(axis)
                # Into memory that is there: fresh pages cost as much as the work on them.
                inputs = torch.where(chosen(inputs, probability, draw), mirrored, inputs, out=mirrored)
        return inputs


def shifted(pictures: Tensor, down: Tensor, right: Tensor, reach: int) -> Tensor:
    """Each picture moved by whole pixels; what comes in from outside is black.

    Args:
        pictures: (b, channels, height, width).
        down: by how many, from -reach to reach, (b,) int64.
        right: likewise.
        reach: the longest shift.

    >>> shifted(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([0]), torch.tensor([1]), 1).tolist()
    [[[[0.0, 1.0, 2.0]]]]
    """
    height, width = pictures.shape[-2:]
    tall, wide = min(reach, height), min(reach, width)  # what has moved farther is gone as well
    padded = functional.pad(pictures, (wide, wide, tall, tall))
    # One window starts at each place in memory; whole windows are copied, twice as fast as pixels by their indices.
    per_picture, per_channel, per_row, per_pixel = padded.stride()
    last = (len(pictures) - 1) * per_picture + 2 * tall * per_row + 2 * wide * per_pixel
    windows = padded.as_strided((last + 1, *pictures.shape[1:]), (1, per_channel, per_row, per_pixel))
    place = torch.arange(len(pictures), device=pictures.device) * per_picture
    place += (tall - down.clamp(-tall, tall)) * per_row + (wide - right.clamp(-wide, wide)) * per_pixel
    return windows.index_select(0, place)


@method(
    row="H2",
    reference="Simard, Steinkraus and Platt 2003",
    formula="x[i - a, j - b], a and b in {-p, ..., p}",
)
@final
class Translate(Augmentation):
    """Shift by whole pixels in both directions; what comes in from outside is black.

    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        pixels: the largest shift p; every one from -p to p is equally likely. Default 2.

    >>> Translate(pixels=0)(torch.ones(1, 1, 2, 2), torch.Generator()).tolist()
    [[[[1.0, 1.0], [1.0, 1.0]]]]
    """

    def __init__(self, *, pixels: Natural = 2) -> None:
        self.pixels = pixels

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, each moved by its own shift."""
        by = torch.randint(
            -self.pixels, self.pixels + 1, (2, len(inputs)), generator=draw, device=inputs.device
        )
        return shifted(inputs, by[0], by[1], self.pixels)


def _sampled(pictures: Tensor, affine: Tensor, padding: str) -> Tensor:
    """Pictures read at A (x, y, 1), A (b, 2, 3), with x and y from -1 to 1 at the outer edges.

    The grid is that of torch's ``affine_grid``, made as one product in a quarter of its time.
    """
    height, width = pictures.shape[-2:]
    x, y = (
        (2 * torch.arange(side, device=pictures.device, dtype=pictures.dtype) + 1) / side - 1
        for side in (width, height)
    )
    points = torch.stack(torch.broadcast_tensors(x, y[:, None], torch.ones_like(x)))
    grid = (affine.reshape(-1, 3) @ points.flatten(1)).reshape(-1, 2, height, width).permute(0, 2, 3, 1)
    return functional.grid_sample(pictures, grid, padding_mode=padding, align_corners=False)


def rotated(pictures: Tensor, degrees: Tensor) -> Tensor:
    """Each picture turned about its centre, counter-clockwise, by bilinear interpolation; outside is black.

    Args:
        pictures: (b, channels, height, width).
        degrees: (b,).

    >>> rotated(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([90.0])).round(decimals=4).tolist()
    [[[[2.0, 4.0], [1.0, 3.0]]]]
    """
    height, width = pictures.shape[-2:]
    angle = degrees * (math.pi / 180)
    cosine, sine, nothing = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Grids run from -1 to 1 along both sides, whatever their lengths.
    x = torch.stack([cosine, -sine * (height / width), nothing], 1)
    y = torch.stack([sine * (width / height), cosine, nothing], 1)
    return _sampled(pictures, torch.stack([x, y], 1), "zeros")


@method(
    row="H2",
    reference="Simard, Steinkraus and Platt 2003",
    formula="x(R v), R a rotation by an angle in [-d, d]",
)
@final
class Rotate(Augmentation):
    """Turn about the centre, by bilinear interpolation; what comes in from outside is black.

    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        degrees: the largest angle d; uniform from -d to d. Default 15.

    >>> Rotate(degrees=10.0)(torch.ones(1, 3, 8, 8), torch.Generator()).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(self, *, degrees: NonNegative = 15.0) -> None:
        self.degrees = degrees

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, each turned by its own angle."""
        return rotated(inputs, uniform(len(inputs), -self.degrees, self.degrees, inputs, draw))


def cropped(pictures: Tensor, height: Tensor, width: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """A window of each picture, enlarged to the picture's size by bilinear interpolation.

    Args:
        pictures: (b, channels, height, width).
        height: the window's, as a share of the picture's, in (0, 1], (b,).
        width: likewise.
        down: where the window lies, from 0, at the top, to 1, at the bottom, (b,).
        right: likewise, from the left.

    >>> half, first = torch.tensor([0.5]), torch.tensor([0.0])
    >>> cropped(torch.tensor([[[[1.0, 1.0, 9.0, 9.0]]]]), torch.tensor([1.0]), half, first, first)[0, 0, 0, :3]
    tensor([1., 1., 1.])
    """
    nothing = torch.zeros_like(height)
    x = torch.stack([width, nothing, (2 * right - 1) * (1 - width)], 1)
    y = torch.stack([nothing, height, (2 * down - 1) * (1 - height)], 1)
    return _sampled(pictures, torch.stack([x, y], 1), "border")


@method(
    row="H2",
    reference="Szegedy et al. 2015 (Going deeper with convolutions); torchvision's RandomResizedCrop",
    formula="x on a window of area a and aspect r, enlarged; a in [smallest, 1], log r in [-log ratio, log ratio]",
)
@final
class Crop(Augmentation):
    """A window somewhere in the picture, enlarged to its size.

    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        smallest: the least share of the picture's area in the window. Default 0.6.
        ratio: the largest ratio of the window's sides, in units of the picture's. Default 4/3.

    >>> Crop()(torch.ones(1, 3, 8, 8), torch.Generator()).round(decimals=5).unique().tolist()
    [1.0]
    """

    def __init__(self, *, smallest: Portion = 0.6, ratio: AtLeastOne = 4 / 3) -> None:
        self.smallest, self.ratio = smallest, ratio

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, of each its own window."""
        count = len(inputs)
        area = uniform(count, self.smallest, 1.0, inputs, draw)
        aspect = uniform(count, -math.log(self.ratio), math.log(self.ratio), inputs, draw).exp()
        down, right = uniform(count, 0.0, 1.0, inputs, draw), uniform(count, 0.0, 1.0, inputs, draw)
        height, width = (area / aspect).sqrt().clamp_max(1.0), (area * aspect).sqrt().clamp_max(1.0)
        return cropped(inputs, height, width, down, right)
