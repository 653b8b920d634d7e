"""Gaussian blur of images, with a different width for each."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from descend.augmentation.base import Augmentation, uniform
from descend.cards import method
from descend.param_types import Positive

__all__ = ["Blur", "blurred", "gaussian_matrices"]

_REACH = 4.0  # standard deviations at which the Gaussian is truncated


def gaussian_matrices(size: int, deviations: Tensor, largest: float) -> Tensor:
    """Return matrices that smooth a line of pixels by Gaussians, with mirrored ends.

    The Gaussian is truncated at 4 standard deviations and sums to 1, as in scipy.ndimage.gaussian_filter.

    Args:
        size: number of pixels n in the line.
        deviations: standard deviations of the Gaussians in pixels, 0 or more, (b,).
        largest: an upper bound of the deviations.

    Returns: matrices (b, n, n); a line x becomes matrix @ x.

    >>> gaussian_matrices(2, torch.tensor([0.0]), 1.0).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    reach = int(_REACH * largest + 0.5)
    offset = torch.arange(-reach, reach + 1, device=deviations.device)
    width = deviations[:, None]
    kernel = torch.exp(-0.5 * (offset / width.clamp_min(1e-3)) ** 2)
    kernel = torch.where(offset.abs() <= (_REACH * width + 0.5).floor(), kernel, 0.0)
    kernel = kernel / kernel.sum(1, keepdim=True)
    place = torch.arange(size, device=deviations.device)
    source = (place[None] + offset[:, None]) % (2 * size)
    source = torch.minimum(source, 2 * size - 1 - source)
    # taps[k, i, j] is 1 if pixel i reads pixel j with the weight of offset k
    taps = torch.zeros(len(offset), size, size, device=deviations.device, dtype=deviations.dtype)
    taps.scatter_(2, source[:, :, None], 1.0)
    return (kernel @ taps.flatten(1)).reshape(-1, size, size)


def blurred(images: Tensor, deviations: Tensor, largest: float) -> Tensor:
    """Blur each image by a Gaussian of its own width.

    Args:
        images: (b, channels, height, width).
        deviations: standard deviations of the Gaussians in pixels, (b,).
        largest: an upper bound of the deviations.
    """
    height, width = images.shape[-2:]
    down = gaussian_matrices(height, deviations, largest)
    across = gaussian_matrices(width, deviations, largest)
    smooth = torch.bmm(images.flatten(1, 2), across.transpose(1, 2)).view_as(images)
    # One product per channel is several times faster than repeating the matrices for each channel.
    return torch.stack([torch.bmm(down, channel) for channel in smooth.unbind(1)], 1)


@method(
    row="H2",
    reference="scipy.ndimage.gaussian_filter; Chen et al. 2020 (SimCLR)",
    formula="G_s * x, s in [0, largest]",
)
@final
class Blur(Augmentation):
    """Gaussian blur with a random width for each image; images are mirrored at their edges.

    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        largest: the largest standard deviation in pixels; it is uniform in [0, largest]. Default 1.

    >>> Blur()(torch.ones(1, 1, 4, 4), torch.Generator()).round(decimals=5).unique().tolist()
    [1.0]
    """

    def __init__(self, *, largest: Positive = 1.0) -> None:
        self.largest = largest

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each blurred by its own width."""
        return blurred(inputs, uniform(len(inputs), 0.0, self.largest, inputs, generator), self.largest)
