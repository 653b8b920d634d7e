"""Conversion between encoded images and pixels from 0, black, to 1, white."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from descend.data.schema import Schema

__all__ = ["Pixels"]

_WHITE = 255.0


class Pixels:
    """Conversion of encoded (scaled) images to pixels and back.

    Batches contain scaled images, the inputs of the network. Augmentations work on pixels p between 0 and 1 instead,
    because they depend on what is black and white:

        v = u / sqrt(1 - (u / clip)^2) if there is a smooth bound,  p = (v spread + shift - black) / (white - black)

    For uint8 images black is 0 and white is 255. For other images they are the smallest and the largest number
    of the training rows. Images of a torch ``Dataset`` are not converted.

    Args:
        gain, offset: p = v gain + offset; tensors that broadcast against (b, channels, height, width).
        clip: the smooth bound on v, or None.

    >>> pixels = Pixels(torch.tensor(0.5), torch.tensor(0.5))
    >>> pixels.to_pixels(torch.tensor([-1.0, 1.0])).tolist(), pixels.from_pixels(torch.tensor([0.0, 1.0])).tolist()
    ([0.0, 1.0], [-1.0, 1.0])
    """

    def __init__(self, gain: Tensor, offset: Tensor, clip: float | None = None) -> None:
        self.gain, self.offset, self.clip = gain, offset, clip
        self._inverse_gain, self._inverse_offset = 1 / gain, -offset / gain

    @classmethod
    def of(cls, schema: Schema, inputs: Tensor | None) -> Self:
        """Return the conversion for a schema whose rows are images.

        Args:
            schema: a fitted schema with shape (channels, height, width) and no rotation.
            inputs: the encoded training rows; None if they are not in memory.
        """
        if schema.kind == "dataset" or inputs is None:
            return cls(torch.ones(()), torch.zeros(()))
        clip = None
        if schema.kind == "table":
            columns = [column for column in schema.columns if column.used]
            spread = torch.tensor([column.scale for column in columns], dtype=torch.float64)
            shift = torch.tensor([column.mean for column in columns], dtype=torch.float64)
            shape, clip = schema.input_shape, schema.clip
        else:
            spread = torch.tensor(schema.spread, dtype=torch.float64)
            shift = torch.tensor(schema.shift, dtype=torch.float64)
            shape = (-1, 1, 1)
        raw = cls(spread.reshape(shape).float(), shift.reshape(shape).float(), clip)
        black, white = 0.0, _WHITE
        if schema.kind != "images":
            numbers = raw.to_pixels(inputs)
            black, white = numbers.min().item(), numbers.max().item()
        unit = (white - black) or 1.0
        return cls(
            (spread / unit).reshape(shape).float(), ((shift - black) / unit).reshape(shape).float(), clip
        )

    def to(self, device: torch.device) -> Pixels:
        """Return the conversion with its tensors on a device."""
        return Pixels(self.gain.to(device), self.offset.to(device), self.clip)

    def to_pixels(self, encoded: Tensor) -> Tensor:
        """Convert encoded images (b, channels, height, width) to pixels."""
        if self.clip is not None:
            ratio = encoded / self.clip
            # A bounded number is below the bound up to rounding.
            encoded = encoded * torch.rsqrt((1.0 - ratio * ratio).clamp_min(1e-6))
        # Two plain kernels: addcmul takes twice as long if it broadcasts.
        return torch.mul(encoded, self.gain).add_(self.offset)

    def from_pixels(self, pixels: Tensor) -> Tensor:
        """Convert pixels (b, channels, height, width) to encoded images."""
        values = torch.mul(pixels, self._inverse_gain).add_(self._inverse_offset)
        if self.clip is not None:
            ratio = values / self.clip
            values = values * torch.rsqrt(1.0 + ratio * ratio)
        return values
