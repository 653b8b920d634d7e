"""Dropout noise of a pack, sampled for each member exactly as in its solo run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from descend.data.batches import Batch
from descend.many.pack.flat_buffer import per_member
from descend.many.pack.layers import PackedDropout
from descend.rng import key, seeder

__all__ = ["DropoutNoise"]

_NoiseBuffer = tuple[Tensor, list[Tensor]]
"""Stacked noise, and each member's part of it."""


class DropoutNoise:
    """Samples the noise of all dropout layers before a step.

    A solo run seeds the generator from (seed, epoch, step) and then samples layer by layer and batch by batch. Each
    member does the same here, and writes to its part of the stacked noise.

    Args:
        layers: the dropout layers of the pack, in order.
        seeds: of the members.
        widths: for each layer, the widths of the members' signals where they are padded, otherwise None.
        device: of the pack.
    """

    def __init__(
        self,
        layers: Sequence[PackedDropout],
        seeds: Sequence[int],
        widths: Sequence[Sequence[int] | None],
        device: torch.device,
    ) -> None:
        self._layers, self._seeds, self._widths, self._device = (
            list(layers),
            list(seeds),
            list(widths),
            device,
        )
        self._seed = seeder(device)
        self._sampling = [
            member for member in range(len(seeds)) if any(layer.rates[member] > 0.0 for layer in layers)
        ]
        self._keep = [
            torch.tensor([1.0 - rate for rate in layer.rates], dtype=torch.float64, device=device)
            for layer in self._layers
        ]
        self._buffers: dict[tuple[int, int, int], _NoiseBuffer] = {}
        self._current: list[list[_NoiseBuffer]] = []

    def sample(self, batches: Sequence[Batch], epoch: int, step: int) -> None:
        """Sample the noise for the batches of a step."""
        if not self._sampling:
            return
        current = self._current = [
            [self._buffer(place, layer, batch.targets.shape[1]) for layer in range(len(self._layers))]
            for place, batch in enumerate(batches)
        ]
        for member in self._sampling:
            self._seed(key(self._seeds[member], "step", epoch, step))
            for of_layers in current:
                for layer, (_, parts) in zip(self._layers, of_layers, strict=True):
                    if layer.rates[member] > 0.0:
                        parts[member].bernoulli_(1.0 - layer.rates[member])
        for of_layers in current:
            for (noise, _), keep in zip(of_layers, self._keep, strict=True):
                noise.div_(per_member(keep.to(noise.dtype), noise))

    def use(self, place: int) -> None:
        """Set the noise of the layers to that of a batch of the current step."""
        if self._sampling:
            for layer, (noise, _) in zip(self._layers, self._current[place], strict=True):
                layer.noise = noise

    def _buffer(self, place: int, number: int, rows: int) -> _NoiseBuffer:
        """Return the noise buffer of a layer and batch: 1 for members without dropout there, 0 for padded units."""
        layer = self._layers[number]
        if (place, number, rows) not in self._buffers:
            shape = (len(self._seeds), rows, *layer.noise_shape()[1:])
            noise = torch.zeros(shape, device=self._device, dtype=layer.dtype)
            widths = self._widths[number]
            parts = [own if widths is None else own[:, : widths[k]] for k, own in enumerate(noise)]
            for part, rate in zip(parts, layer.rates, strict=True):
                if rate == 0.0:
                    part.fill_(1.0)
            self._buffers[place, number, rows] = noise, parts
        return self._buffers[place, number, rows]
