"""Color augmentations of images: brightness, contrast, saturation, background."""

from __future__ import annotations

from typing import Literal, final

import torch
from torch import Tensor

from descend.augmentation.base import Augmentation, row_mask, uniform
from descend.cards import method
from descend.param_types import NonNegative, Probability

__all__ = ["Background", "Color", "gray"]

_LUMA = (0.299, 0.587, 0.114)


def gray(images: Tensor) -> Tensor:
    """Return the brightness (b, 1, height, width): ITU-R BT.601 for red, green and blue, else the mean of the channels.

    >>> gray(torch.ones(1, 3, 1, 1)).round(decimals=5).item()
    1.0
    """
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = (images[:, at : at + 1] * share for at, share in enumerate(_LUMA))
    return red + green + blue


@method(
    row="H2",
    reference="Krizhevsky, Sutskever and Hinton 2012 (color augmentation); torchvision's ColorJitter, without hue",
    formula="x <- b x; x <- m + c (x - m), m the mean brightness; x <- g + s (x - g), g the pixel's brightness",
    note="values may leave [0, 1]; they are not clamped.",
)
@final
class Color(Augmentation):
    """Random changes of brightness, contrast and saturation.

    Each image has its own factors b, c and s, uniform in [1 - d, 1 + d] with the given d, applied in this order.
    Saturation needs more than one channel.
    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        brightness: d for the factor of all values. Default 0.2.
        contrast: d for the factor of the difference from the mean brightness of the image. Default 0.2.
        saturation: d for the factor of the difference from the brightness of the pixel. Default 0.2.

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

    def _factor(self, strength: float, inputs: Tensor, generator: torch.Generator) -> Tensor:
        return uniform(len(inputs), 1 - strength, 1 + strength, inputs, generator).reshape(-1, 1, 1, 1)

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, each changed by its own factors."""
        b = self._factor(self.brightness, inputs, generator)
        c = self._factor(self.contrast, inputs, generator)
        s = self._factor(self.saturation, inputs, generator)
        # Combined, the three are c b (s x + (1 - s) g) + (1 - c) b m, with g and m of the original image.
        bright = gray(inputs)
        rest = (1 - c) * b * bright.mean((2, 3), keepdim=True)
        if inputs.shape[1] > 1:
            return torch.addcmul((1 - s) * c * b * bright + rest, inputs, s * c * b)
        return torch.addcmul(rest, inputs, c * b)


@method(
    row="H2",
    reference="Larochelle et al. 2007 (digits on random backgrounds)",
    formula="x <- color where all channels of x <= tolerance (dark) or >= 1 - tolerance (light)",
    note="for images on a uniform dark or light background, such as digits and scans.",
)
@final
class Background(Augmentation):
    """Random background color: replace pixels that are nearly black, or nearly white.

    Each changed image gets one color, uniform in [0, 1] for each channel.
    Shapes: images (b, channels, height, width); the result has the same shape.

    Args:
        ground: which pixels count as background, "dark" or "light". Default "dark".
        tolerance: largest difference from black, or from white, in every channel. Default 0.1.
        probability: probability that an image is changed. Default 0.5.

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

    def __call__(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Return the images, some of them with a different background."""
        background = inputs <= self.tolerance if self.ground == "dark" else inputs >= 1 - self.tolerance
        replaced = background.all(1, keepdim=True) & row_mask(inputs, self.probability, generator)
        shape = (*inputs.shape[:2], 1, 1)
        color = torch.rand(shape, generator=generator, device=inputs.device, dtype=inputs.dtype)
        return torch.where(replaced, color, inputs)
