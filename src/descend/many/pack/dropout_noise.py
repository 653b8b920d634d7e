"""Dropout noise of a pack, sampled for each member exactly as in its solo run."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from descend.data.batches import Batch
from descend.many.pack.flat_buffer import per_member
from descend.many.pack.layers import PackedDropout
from descend.nn.masks import LEVELS, Bits, Chunks, kept_levels
from descend.rng import key, seeder

__all__ = ["DropoutNoise"]

_NoiseBuffer = tuple[Tensor, list[Tensor]]
"""Stacked noise, and each member's part of it."""


@dataclass(frozen=True)
class _Chunk:
    """The noise of consecutive steps whose batches have the same numbers of rows, by (place of the batch, layer)."""

    rows: tuple[int, ...]
    epoch: int
    steps: range
    noise: Mapping[tuple[int, int], Sequence[Tensor]]


class DropoutNoise:
    """Samples the noise of all dropout layers before a step.

    A solo run seeds the generator from (seed, epoch, step) and then samples layer by layer and batch by batch. Each
    member does the same here, and its numbers become its part of the stacked noise.

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
        # On other devices than the CPU, descend.nn.Dropout samples as nn.Dropout does.
        self._own = [layer.own_masks and device.type == "cpu" for layer in layers]
        self._source, self._chunks = Bits(), Chunks()
        self._seed = seeder(device)
        self._sampling = any(any(layer.rates) for layer in layers)
        self._seeded = [
            member
            for member in range(len(seeds))
            if any(layer.rates[member] and not own for layer, own in zip(layers, self._own, strict=True))
        ]
        self._keep = [
            torch.tensor([1.0 - rate for rate in layer.rates], dtype=torch.float64, device=device)
            for layer in self._layers
        ]
        self._buffers: dict[tuple[int, int, int], _NoiseBuffer] = {}
        self._current: list[list[Tensor]] = []
        self._chunk = _Chunk((), -1, range(0), {})

    def sample(self, batches: Sequence[Batch], epoch: int, step: int) -> None:
        """Sample the noise for the batches of a step."""
        if not self._sampling:
            return
        rows = tuple(batch.targets.shape[1] for batch in batches)
        chunk = self._chunk
        if any(self._own):
            self._chunks.visit(epoch, step)
            if chunk.rows != rows or chunk.epoch != epoch or step not in chunk.steps:
                chunk = self._chunk = self._sampled(rows, epoch)
        row = step - chunk.steps.start
        seeded = self._seeded_noise(rows, epoch, step)
        self._current = [
            [
                chunk.noise[place, number][row] if own else seeded[place, number][0]
                for number, own in enumerate(self._own)
            ]
            for place in range(len(rows))
        ]

    def use(self, place: int) -> None:
        """Set the noise of the layers to that of a batch of the current step."""
        if self._sampling:
            for layer, noise in zip(self._layers, self._current[place], strict=True):
                layer.noise = noise

    def _seeded_noise(
        self, rows: Sequence[int], epoch: int, step: int
    ) -> dict[tuple[int, int], _NoiseBuffer]:
        """Return the noise of the layers that sample from PyTorch's generator."""
        current = {
            (place, number): self._buffer(place, number, own)
            for place, own in enumerate(rows)
            for number in range(len(self._layers))
            if not self._own[number]
        }
        for member in self._seeded:
            self._seed(key(self._seeds[member], "step", epoch, step))
            for (_, number), (_, parts) in current.items():
                rate = self._layers[number].rates[member]
                if rate > 0.0:
                    parts[member].bernoulli_(1.0 - rate)
        for (_, number), (noise, _) in current.items():
            noise.div_(per_member(self._keep[number].to(noise.dtype), noise))
        return current

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

    def _sampled(self, rows: tuple[int, ...], epoch: int) -> _Chunk:
        """Sample the noise of the layers with masks of their own for this step and the next ones."""
        calls = [(place, number) for place in range(len(rows)) for number, own in enumerate(self._own) if own]
        shapes = {
            (place, number): (rows[place], *self._layers[number].noise_shape()[1:]) for place, number in calls
        }
        steps = self._chunks.steps(len(self._seeds) * sum(math.prod(shape) for shape in shapes.values()))
        largest = LEVELS // 2 - 1
        # An entry is kept where its integer is below the member's bound. All are where a member has no dropout, and none
        # at padded units.
        integers = {
            call: np.full((len(steps), len(self._seeds), *shape), largest, dtype=np.int16)
            for call, shape in shapes.items()
        }
        for member, seed in enumerate(self._seeds):
            parts = []
            for place, number in calls:
                own, widths = integers[place, number][:, member], self._widths[number]
                part = own if widths is None else own[:, :, : widths[member]]
                if kept_levels(self._layers[number].rates[member]) < LEVELS:
                    parts.append(part)
                else:
                    part.fill(-LEVELS // 2)
            sizes = [math.prod(part.shape[1:]) for part in parts]
            if not parts:
                continue
            bits = self._source.of_steps(seed, epoch, steps, sum(sizes))
            for part, end, size in zip(parts, itertools.accumulate(sizes), sizes, strict=True):
                part[...] = bits[:, end - size : end].reshape(part.shape)
        noise = {}
        for (place, number), own in integers.items():
            layer = self._layers[number]
            levels = np.array([kept_levels(rate) for rate in layer.rates]).reshape(-1, *[1] * (own.ndim - 2))
            kept = own < np.minimum(levels - LEVELS // 2, largest).astype(np.int16)
            scales = (LEVELS / np.maximum(levels, 1)).astype(np.float32)
            factors = torch.from_numpy(kept * scales).to(layer.dtype)
            noise[place, number] = factors.unbind(0)
        return _Chunk(rows, epoch, steps, noise)
