"""Light and colour of pictures, and what is behind things."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from descend.augmentation.base import Augmentation, chosen, uniform
from descend.cards import method
from descend.param_types import NonNegative, Probability

__all__ = ["Background", "Color", "grey"]

_LUMA = (0.299, 0.587, 0.114)


def grey(pictures: Tensor) -> Tensor:
    """Brightness (b, 1, height, width): ITU-R BT.601's of red, green and blue, else the channels' mean.

    >>> grey(torch.ones(1, 3, 1, 1)).round(decimals=5).item()
    1.0
    """
    if pictures.shape[1] != 3:
        return pictures.mean(1, keepdim=True)
    red, green, blue = (pictures[:, at : at + 1] * share for at, share in enumerate(_LUMA))
    return red + green + blue


@method(
    row="H2",
    reference="Krizhevsky, Sutskever and Hinton 2012 (colour); torchvision's ColorJitter, without its hue",
    formula="x <- b x; x <- m + c (x - m), m the mean brightness; x <- g + s (x - g), g the pixel's brightness",
    note="values may leave [0, 1]; nothing is cut off.",
)
@final
class Color(Augmentation):
    """Other brightness, contrast and saturation.

    Each picture has its own factors b, c and s, uniform in [1 - d, 1 + d] with d as given, applied in this order.
    Saturation needs more than one channel.
    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        brightness: d of the factor of all values. Default 0.2.
        contrast: d of the factor of the distance from the picture's mean brightness. Default 0.2.
        saturation: d of the factor of the distance from the pixel's own brightness. Default 0.2.

    >>> Color(brightness=0, contrast=0, saturation=0)(torch.ones(1, 3, 1, 1), torch.Generator()).flatten()
    tensor([1., 1., 1.])
    """

    def __init__(
        self,
        *,
        brightness: NonNegative = 0.2,
        contrast: NonNegative = 0.2,
        saturation: NonNegative = 0.2,
    ) -> None:
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation

    def _factor(self, spread: float, inputs: Tensor, draw: torch.Generator) -> Tensor:
        return uniform(len(inputs), 1 - spread, 1 + spread, inputs, draw).reshape(-1, 1, 1, 1)

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, each with its own factors."""
        b = self._factor(self.brightness, inputs, draw)
        c = self._factor(self.contrast, inputs, draw)
        s = self._factor(self.saturation, inputs, draw)
        # The three together are c b (s x + (1 - s) g) + (1 - c) b m, with g and m of the picture as it came.
        bright = grey(inputs)
        rest = (1 - c) * b * bright.mean((2, 3), keepdim=True)
        if inputs.shape[1] > 1:
            return torch.addcmul((1 - s) * c * b * bright + rest, inputs, s * c * b)
        return torch.addcmul(rest, inputs, c * b)


@method(
    row="H2",
    reference="Ju Sun, Training DNNs (2025): be robust to the background",
    formula="x <- colour where all channels of x <= tolerance (dark) or >= 1 - tolerance (light)",
    note="for pictures on a plain dark or light ground, such as digits and scans.",
)
@final
class Background(Augmentation):
    """A plain background of another colour: grounds that are nearly black, or white, are painted over.

    Each changed picture gets one colour, uniform in [0, 1] for each channel.
    Shapes: pictures (b, channels, height, width), and the same again.

    Args:
        ground: which pixels count as background, "dark" or "light". Default "dark".
        tolerance: how far from black, or from white, in every channel. Default 0.1.
        probability: that a picture is changed. Default 0.5.

    >>> new = Background(probability=1.0)(torch.tensor([[[[0.0, 0.9]]]]), torch.Generator().manual_seed(0))
    >>> bool(new[..., 0] > 0), bool(new[..., 1] == 0.9)
    (True, True)
    """

    def __init__(
        self,
        *,
        ground: Literal["dark", "light"] = "dark",
        tolerance: Probability = 0.1,
        probability: Probability = 0.5,
    ) -> None:
        self.ground, self.tolerance, self.probability = ground, tolerance, probability

    def __call__(self, inputs: Tensor, draw: torch.Generator) -> Tensor:
        """The pictures, some of them on another ground."""
        near = inputs <= self.tolerance if self.ground == "dark" else inputs >= 1 - self.tolerance
        painted = near.all(1, keepdim=True) & chosen(inputs, self.probability, draw)
        shape = (*inputs.shape[:2], 1, 1)
        colour = torch.rand(shape, generator=draw, device=inputs.device, dtype=inputs.dtype)
        return torch.where(painted, colour, inputs)
