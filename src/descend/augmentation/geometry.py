"""Geometric augmentations of images: flips, translations, rotations, crops."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from descend.augmentation.base import Augmentation, row_mask, uniform
from descend.cards import method
from descend.param_types import AtLeastOne, Natural, NonNegative, Portion, Probability

__all__ = ["Crop", "Flip", "Rotate", "Translate", "cropped", "rotated", "shifted"]


@method(row="H2", reference="folklore", formula="x[..., ::-1] with probability p")
@final
class Flip(Augmentation):
    """Random flips: swap left and right, or top and bottom.

    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        horizontal: probability that left and right are swapped. Default 0.5.
        vertical: probability that top and bottom are swapped. Default 0.

    >>> Flip(horizontal=1.0)(torch.tensor([[[[1.0, 2.0]]]]), torch.Generator()).tolist()
    [[[[2.0, 1.0]]]]
    """

    def __init__(self, *, horizontal: Probability = 0.5, vertical: Probability = 0.0) -> None:
        self.horizontal, self.vertical = horizontal, vertical

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, some of them flipped."""
        for axis, probability in ((-1, self.horizontal), (-2, self.vertical)):
            if probability:
                mirrored = inputs.flip(axis)
                # Reuse the memory: allocating new pages costs as much as the operation itself.
                inputs = torch.where(row_mask(inputs, probability, generator), mirrored, inputs, out=mirrored)
        return inputs


def shifted(images: Tensor, down: Tensor, right: Tensor, reach: int) -> Tensor:
    """Translate each image by an integer number of pixels; pixels outside the image are black.

    Args:
        images: (b, channels, height, width).
        down: number of pixels from -reach to reach, (b,) int64.
        right: number of pixels from -reach to reach, (b,) int64.
        reach: the largest translation.

    >>> shifted(torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([0]), torch.tensor([1]), 1).tolist()
    [[[[0.0, 1.0, 2.0]]]]
    """
    if len(images) == 0:
        return images.clone()
    height, width = images.shape[-2:]
    tall, wide = (
        min(reach, height),
        min(reach, width),
    )  # a larger translation also leaves nothing of the image
    padded = functional.pad(images, (wide, wide, tall, tall))
    # A window starts at each memory offset; copying whole windows is twice as fast as indexing pixels.
    per_image, per_channel, per_row, per_pixel = padded.stride()
    last = (len(images) - 1) * per_image + 2 * tall * per_row + 2 * wide * per_pixel
    windows = padded.as_strided((last + 1, *images.shape[1:]), (1, per_channel, per_row, per_pixel))
    offset = torch.arange(len(images), device=images.device) * per_image
    offset += (tall - down.clamp(-tall, tall)) * per_row + (wide - right.clamp(-wide, wide)) * per_pixel
    return windows.index_select(0, offset)


@method(
    row="H2",
    reference="Simard, Steinkraus and Platt 2003",
    formula="x[i - a, j - b], a and b in {-p, ..., p}",
)
@final
class Translate(Augmentation):
    """Random translation by an integer number of pixels in both directions; pixels outside the image are black.

    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        pixels: the largest translation p; all integers from -p to p are equally likely. Default 2.

    >>> Translate(pixels=0)(torch.ones(1, 1, 2, 2), torch.Generator()).tolist()
    [[[[1.0, 1.0], [1.0, 1.0]]]]
    """

    def __init__(self, *, pixels: Natural = 2) -> None:
        self.pixels = pixels

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each translated independently."""
        shift = torch.randint(
            -self.pixels, self.pixels + 1, (2, len(inputs)), generator=generator, device=inputs.device
        )
        return shifted(inputs, shift[0], shift[1], self.pixels)


def _sampled(images: Tensor, affine: Tensor, padding: str) -> Tensor:
    """Read images at A (x, y, 1), A of shape (b, 2, 3), with x and y from -1 to 1 at the outer edges.

    The grid equals that of torch's ``affine_grid``; a single matrix product computes it in a quarter of the time.
    """
    height, width = images.shape[-2:]
    x, y = (
        (2 * torch.arange(side, device=images.device, dtype=images.dtype) + 1) / side - 1
        for side in (width, height)
    )
    points = torch.stack(torch.broadcast_tensors(x, y[:, None], torch.ones_like(x)))
    grid = (affine.reshape(-1, 3) @ points.flatten(1)).reshape(-1, 2, height, width).permute(0, 2, 3, 1)
    return functional.grid_sample(images, grid, padding_mode=padding, align_corners=False)


def rotated(images: Tensor, degrees: Tensor) -> Tensor:
    """Rotate each image about its center, counter-clockwise, by bilinear interpolation; outside is black.

    Args:
        images: (b, channels, height, width).
        degrees: the angles, (b,).

    >>> rotated(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]), torch.tensor([90.0])).round(decimals=4).tolist()
    [[[[2.0, 4.0], [1.0, 3.0]]]]
    """
    height, width = images.shape[-2:]
    angle = degrees * (math.pi / 180)
    cosine, sine, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    # Grid coordinates range from -1 to 1 along both sides, regardless of their lengths.
    x = torch.stack([cosine, -sine * (height / width), zero], 1)
    y = torch.stack([sine * (width / height), cosine, zero], 1)
    return _sampled(images, torch.stack([x, y], 1), "zeros")


@method(
    row="H2",
    reference="Simard, Steinkraus and Platt 2003",
    formula="x(R v), R a rotation by an angle in [-d, d]",
)
@final
class Rotate(Augmentation):
    """Random rotation about the center, by bilinear interpolation; pixels outside the image are black.

    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        degrees: the largest angle d; the angle is uniform in [-d, d]. Default 15.

    >>> Rotate(degrees=10.0)(torch.ones(1, 3, 8, 8), torch.Generator()).shape
    torch.Size([1, 3, 8, 8])
    """

    def __init__(self, *, degrees: NonNegative = 15.0) -> None:
        self.degrees = degrees

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each rotated by its own angle."""
        return rotated(inputs, uniform(len(inputs), -self.degrees, self.degrees, inputs, generator))


def cropped(images: Tensor, height: Tensor, width: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Enlarge a window of each image to the size of the image, by bilinear interpolation.

    Args:
        images: (b, channels, height, width).
        height: height of the window as a fraction of the image height, in (0, 1], (b,).
        width: width of the window as a fraction of the image width, in (0, 1], (b,).
        down: vertical position of the window, from 0, at the top, to 1, at the bottom, (b,).
        right: horizontal position of the window, from 0, at the left, to 1, at the right, (b,).

    >>> half, first = torch.tensor([0.5]), torch.tensor([0.0])
    >>> cropped(torch.tensor([[[[1.0, 1.0, 9.0, 9.0]]]]), torch.tensor([1.0]), half, first, first)[0, 0, 0, :3]
    tensor([1., 1., 1.])
    """
    zero = torch.zeros_like(height)
    x = torch.stack([width, zero, (2 * right - 1) * (1 - width)], 1)
    y = torch.stack([zero, height, (2 * down - 1) * (1 - height)], 1)
    return _sampled(images, torch.stack([x, y], 1), "border")


@method(
    row="H2",
    reference="Szegedy et al. 2015 (Going deeper with convolutions); torchvision's RandomResizedCrop",
    formula="x on a window of area a and aspect r, enlarged; a in [smallest, 1], log r in [-log ratio, log ratio]",
)
@final
class Crop(Augmentation):
    """Random resized crop: enlarge a random window of the image to its size.

    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        smallest: the smallest area of the window as a fraction of the image area. Default 0.6.
        ratio: the largest aspect ratio of the window, relative to that of the image. Default 4/3.

    >>> Crop()(torch.ones(1, 3, 8, 8), torch.Generator()).round(decimals=5).unique().tolist()
    [1.0]
    """

    def __init__(self, *, smallest: Portion = 0.6, ratio: AtLeastOne = 4 / 3) -> None:
        self.smallest, self.ratio = smallest, ratio

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return a window of each image, enlarged."""
        count = len(inputs)
        area = uniform(count, self.smallest, 1.0, inputs, generator)
        aspect = uniform(count, -math.log(self.ratio), math.log(self.ratio), inputs, generator).exp()
        down, right = uniform(count, 0.0, 1.0, inputs, generator), uniform(count, 0.0, 1.0, inputs, generator)
        height, width = (area / aspect).sqrt().clamp_max(1.0), (area * aspect).sqrt().clamp_max(1.0)
        return cropped(inputs, height, width, down, right)
