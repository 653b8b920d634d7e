"""Encoded pictures as pixels from 0, black, to 1, white, and back."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from descend.data.schema import Schema

__all__ = ["Pixels"]

_WHITE = 255.0


class Pixels:
    """The scale of encoded pictures, undone and done again.

    Batches hold pictures as the network gets them, scaled. Methods that know light from dark, and what
    is outside a picture, work on pixels p between 0 and 1 instead:

        v = u / sqrt(1 - (u / clip)^2) where there is a bound,  p = (v spread + shift - black) / (white - black)

    Images, uint8, have black 0 and white 255. Pictures of other numbers have the smallest and the largest number
    of the training rows. Those of a torch ``Dataset`` are taken as they are.

    Args:
        gain, offset: p = v gain + offset; tensors that broadcast against (b, channels, height, width).
        clip: the smooth bound on v, or None.

    >>> pixels = Pixels(torch.tensor(0.5), torch.tensor(0.5))
    >>> pixels.shown(torch.tensor([-1.0, 1.0])).tolist(), pixels.encoded(torch.tensor([0.0, 1.0])).tolist()
    ([0.0, 1.0], [-1.0, 1.0])
    """

    def __init__(self, gain: Tensor, offset: Tensor, clip: float | None = None) -> None:
        self.gain, self.offset, self.clip = gain, offset, clip
        self._gain_back, self._offset_back = 1 / gain, -offset / gain

    @classmethod
    def of(cls, schema: Schema, inputs: Tensor | None) -> Self:
        """The pixels of a schema whose rows are pictures.

        Args:
            schema: fitted, with a shape (channels, height, width) and no rotation.
            inputs: the encoded training rows; None where they are not in memory.
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
            numbers = raw.shown(inputs)
            black, white = numbers.min().item(), numbers.max().item()
        unit = (white - black) or 1.0
        return cls(
            (spread / unit).reshape(shape).float(), ((shift - black) / unit).reshape(shape).float(), clip
        )

    def to(self, device: torch.device) -> Pixels:
        """The same, on a device."""
        return Pixels(self.gain.to(device), self.offset.to(device), self.clip)

    def shown(self, encoded: Tensor) -> Tensor:
        """Pixels of encoded pictures (b, channels, height, width)."""
        if self.clip is not None:
            ratio = encoded / self.clip
            # Beyond rounding a bounded number is below the bound.
            encoded = encoded * torch.rsqrt((1.0 - ratio * ratio).clamp_min(1e-6))
        # Two passes of plain kernels: addcmul takes twice their time where it broadcasts.
        return torch.mul(encoded, self.gain).add_(self.offset)

    def encoded(self, shown: Tensor) -> Tensor:
        """Encoded pictures of pixels (b, channels, height, width)."""
        values = torch.mul(shown, self._gain_back).add_(self._offset_back)
        if self.clip is not None:
            ratio = values / self.clip
            values = values * torch.rsqrt(1.0 + ratio * ratio)
        return values
