"""Gaussian smoothing of pictures, each with a width of its own."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from descend.augmentation.base import Augmentation, uniform
from descend.cards import method
from descend.param_types import Positive

__all__ = ["Blur", "blurred", "gaussian_matrices"]

_REACH = 4.0  # standard deviations after which the Gaussian is cut off


def gaussian_matrices(size: int, deviations: Tensor, largest: float) -> Tensor:
    """Matrices that smooth a line of pixels by Gaussians; the line is mirrored at its ends.

    The Gaussian is cut off after 4 deviations and sums to 1, as scipy.ndimage.gaussian_filter's.

    Args:
        size: pixels in the line, n.
        deviations: of the Gaussians, in pixels, 0 or more, (b,).
        largest: at least as large as the largest deviation.

    Returns: (b, n, n); a line x becomes matrix @ x.

    >>> gaussian_matrices(2, torch.tensor([0.0]), 1.0).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]
    """
    reach = int(_REACH * largest + 0.5)
    offset = torch.arange(-reach, reach + 1, device=deviations.device)
    width = deviations[:, None]
    bell = torch.exp(-0.5 * (offset / width.clamp_min(1e-3)) ** 2)
    bell = torch.where(offset.abs() <= (_REACH * width + 0.5).floor(), bell, 0.0)
    bell = bell / bell.sum(1, keepdim=True)
    place = torch.arange(size, device=deviations.device)
    source = (place[None] + offset[:, None]) % (2 * size)
    source = torch.minimum(source, 2 * size - 1 - source)
    # taps[k, i, j] is 1 where pixel i takes from pixel j with the weight of offset k
    taps = torch.zeros(len(offset), size, size, device=deviations.device, dtype=deviations.dtype)
    taps.scatter_(2, source[:, :, None], 1.0)
    return (bell @ taps.flatten(1)).reshape(-1, size, size)


def blurred(pictures: Tensor, deviations: Tensor, largest: float) -> Tensor:
    """Each picture smoothed by a Gaussian of its own width.

    Args:
        pictures: (b, channels, height, width).
        deviations: of the Gaussians, in pixels, (b,).
        largest: at least as large as the largest of them.
    """
    height, width = pictures.shape[-2:]
    down = gaussian_matrices(height, deviations, largest)
    across = gaussian_matrices(width, deviations, largest)
    smooth = torch.bmm(pictures.flatten(1, 2), across.transpose(1, 2)).view_as(pictures)
    # One product a channel: to repeat the matrices for each would take several times as long.
    return torch.stack([torch.bmm(down, channel) for channel in smooth.unbind(1)], 1)


@method(
    row="H2",
    reference="scipy.ndimage.gaussian_filter; Chen et al. 2020 (SimCLR)",
    formula="G_s * x, s in [0, largest]",
)
@final
class Blur(Augmentation):
    """Gaussian blur, of another width for each picture; the picture is mirrored at its edges.

    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        largest: the largest standard deviation in pixels; uniform from 0. Default 1.

    >>> Blur()(torch.ones(1, 1, 4, 4), torch.Generator()).round(decimals=5).unique().tolist()
    [1.0]
    """

    def __init__(self, *, largest: Positive = 1.0) -> None:
        self.largest = largest

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, each blurred by its own width."""
        return blurred(inputs, uniform(len(inputs), 0.0, self.largest, inputs, draw), self.largest)
