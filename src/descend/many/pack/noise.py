"""The noise of dropout in a pack: for each member the very draws that it would make alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from descend.data.batches import Batch
from descend.many.pack.flat import spread
from descend.many.pack.layers import PackedDropout
from descend.rng import key, seeder

__all__ = ["Noise"]

_Noise = tuple[Tensor, list[Tensor]]
"""Stacked noise, and each member's part of it."""


class Noise:
    """Draws the noise of all dropout layers before a step.

    A network alone seeds the generator from (seed, epoch, step) and then draws layer after layer, batch after
    batch. So does each member here, into its part of the stacked noise.

    Args:
        layers: the pack's dropout layers, in order.
        seeds: of the members.
        widths: for each layer the widths of the members' signals there, where they are padded; else None.
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
        self._drawing = [
            member for member in range(len(seeds)) if any(layer.rates[member] > 0.0 for layer in layers)
        ]
        self._kept = [
            torch.tensor([1.0 - rate for rate in layer.rates], dtype=torch.float64, device=device)
            for layer in self._layers
        ]
        self._buffers: dict[tuple[int, int, int], _Noise] = {}
        self._current: list[list[_Noise]] = []

    def draw(self, batches: Sequence[Batch], epoch: int, step: int) -> None:
        """Draw for the batches of a step."""
        if not self._drawing:
            return
        held = self._current = [
            [self._buffer(place, layer, batch.targets.shape[1]) for layer in range(len(self._layers))]
            for place, batch in enumerate(batches)
        ]
        for member in self._drawing:
            self._seed(key(self._seeds[member], "step", epoch, step))
            for of_layers in held:
                for layer, (_, parts) in zip(self._layers, of_layers, strict=True):
                    if layer.rates[member] > 0.0:
                        parts[member].bernoulli_(1.0 - layer.rates[member])
        for of_layers in held:
            for (noise, _), kept in zip(of_layers, self._kept, strict=True):
                noise.div_(spread(kept.to(noise.dtype), noise))

    def use(self, place: int) -> None:
        """Put the noise of a batch of the step into the layers."""
        if self._drawing:
            for layer, (noise, _) in zip(self._layers, self._current[place], strict=True):
                layer.noise = noise

    def _buffer(self, place: int, number: int, rows: int) -> _Noise:
        """Memory for the noise at a layer and batch. It is 1 where a member never draws, 0 at units it does not have."""
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
