"""Random bits of the dropout masks of a training, sampled for several steps at once.

The bits of a step are the output of a generator SFC64 whose seed is a hash of (seed, epoch, step): a step has the same
masks wherever training is resumed, however often its loss is evaluated, and however many steps are sampled together. In
a small network most of the cost of a mask is the overhead of its operations and not the random numbers; sampling a
chunk of steps with the same operations removes most of it.

Source of SFC64: Doty-Humphrey, PractRand, 2010; its seeding with twelve discarded outputs likewise.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from descend.rng import digest

__all__ = ["LEVELS", "Bits", "Chunks", "Masks", "kept_levels"]

LEVELS = 2**16
"""The number of values of the random integer of a unit."""

CHUNK = 2**16
"""Units of a chunk: few enough that their bits and masks leave most of a level-2 cache to the network."""

_DISCARDED = 12
"""Outputs of SFC64 that are discarded after seeding, so that each word of its state depends on every word of the seed."""


def kept_levels(p: float) -> int:
    """Return how many of the 65,536 values of a unit's random integer keep it: (1 − p)·65,536, rounded.

    The probability to drop a unit is thus within 2⁻¹⁷ of ``p``, and exact for 0, 1 and multiples of 2⁻¹⁶ such as 0.5.

    >>> kept_levels(0.5), kept_levels(0.1), kept_levels(0.0), kept_levels(1.0)
    (32768, 58982, 65536, 0)
    """
    return round((1.0 - p) * LEVELS)


class Bits:
    """Independent integers, uniform on [-32768, 32767], from a seed of 24 bytes."""

    def __init__(self) -> None:
        self._sfc = np.random.SFC64(0)
        self._rows = np.empty(0, dtype=np.int16)
        self._words = np.ones(4, dtype=np.uint64)  # the fourth is a counter, which starts at 1
        self._state: Any = {
            "bit_generator": "SFC64",
            "state": {"state": self._words},
            "has_uint32": 0,
            "uinteger": 0,
        }

    def seeded(self, seed: bytes, count: int) -> NDArray[np.int16]:
        """Return ``count`` integers; the first ones do not depend on ``count``.

        >>> some, more = Bits().seeded(bytes(24), 5), Bits().seeded(bytes(24), 50)
        >>> bool((some == more[:5]).all())
        True
        """
        self._words[:3] = np.frombuffer(seed, dtype=np.uint64)
        self._sfc.state = self._state
        words: NDArray[np.uint64] = self._sfc.random_raw(_DISCARDED + (count + 3) // 4)
        return words[_DISCARDED:].view(np.int16)[:count]

    def of_steps(self, seed: int, epoch: int, steps: range, count: int) -> NDArray[np.int16]:
        """Return ``count`` integers for each of some steps of a training, (steps, count), valid until the next call."""
        if self._rows.size < len(steps) * count:
            self._rows = np.empty(len(steps) * count, dtype=np.int16)
        rows = self._rows[: len(steps) * count].reshape(len(steps), count)
        for row, step in zip(rows, steps, strict=True):
            row[:] = self.seeded(digest(seed, "dropout", epoch, step, size=24), count)
        return rows


class Chunks:
    """How many steps are sampled together: as many as fit, and not beyond the end of the epoch once it is known."""

    def __init__(self) -> None:
        self._now, self._length, self._last = (-1, -1), 0, 1

    def visit(self, epoch: int, step: int) -> None:
        """Record that a step begins."""
        if step == 0 and epoch == self._now[0] + 1 and epoch > 0:
            self._length = self._now[1] + 1
        self._now = (epoch, step)

    def steps(self, units: int) -> range:
        """Return the steps, from the current one on, to sample together if a step needs this number of units."""
        step = self._now[1]
        limit = max(1, min(2 * self._last, CHUNK // max(units, 1)))
        if step < self._length:
            limit = min(limit, self._length - step)
        self._last = limit
        return range(step, step + limit)


_Wanted = tuple[tuple[int, ...], float, torch.dtype]


class _Noise:
    """The noise of one call of a dropout layer in consecutive steps.

    Memory is reused from chunk to chunk: allocating it takes longer than computing the noise.

    Args:
        wanted: shape, p and dtype.
        at: the place of the call's first integer among those of its step.
    """

    def __init__(self, wanted: _Wanted, at: int) -> None:
        self.wanted, self.at, self.end = wanted, at, at + math.prod(wanted[0])
        self.steps = range(0)
        self.of_steps: list[Tensor] = []
        self._levels = kept_levels(wanted[1])
        self._kept = np.empty(self.end - at, dtype=np.bool_)
        self._scale = np.float32(LEVELS / max(self._levels, 1))
        self._memory: list[tuple[Tensor, NDArray[np.float32]]] = []

    def begin(self, steps: range) -> None:
        """Forget the noise, and expect the integers of these steps."""
        self.steps, self.of_steps = steps, []

    def add(self, bits: NDArray[np.int16]) -> None:
        """Compute the noise of the next step from its integers."""
        shape, _, dtype = self.wanted
        if len(self.of_steps) == len(self._memory):
            memory = torch.empty(shape)
            self._memory.append((memory, memory.numpy().reshape(-1)))
        factors, array = self._memory[len(self.of_steps)]
        np.less(bits[self.at : self.end], self._levels - LEVELS // 2, out=self._kept)
        np.multiply(self._kept, self._scale, out=array)
        # An autograd graph that still uses the memory reports that it has changed.
        torch.autograd.graph.increment_version(factors)
        self.of_steps.append(factors if dtype is torch.float32 else factors.to(dtype))


class _OfThread(threading.local):
    masks: Masks | None = None


_current = _OfThread()


class Masks:
    """The dropout noise of the steps of one training on the CPU, as a function of (seed, epoch, step).

    Within a step, the calls of dropout layers take consecutive parts of the step's random integers. As a context manager,
    the layers that this thread runs use these masks.

    Args:
        seed: of the training.

    >>> masks = Masks(seed=0)
    >>> masks.begin(epoch=3, step=5)
    >>> first, second = (masks.noise((4, 2), 0.5, torch.float32) for _ in range(2))
    >>> masks.begin(epoch=3, step=5)
    >>> torch.equal(masks.noise((4, 2), 0.5, torch.float32), first)
    True
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._source, self._chunks = seed, Bits(), Chunks()
        self._epoch, self._step, self._at, self._of_epoch = 0, 0, 0, -1
        self._calls: dict[int, _Noise] = {}
        self._plan: list[_Noise] = []  # the calls of the step before, in order
        self._made: list[_Noise] = []  # the calls of this step so far
        self._before: Masks | None = None

    @staticmethod
    def current() -> Masks | None:
        """Return the masks that this thread uses: those whose context it is in, if any."""
        return _current.masks

    def __enter__(self) -> Masks:
        self._before, _current.masks = _current.masks, self
        return self

    def __exit__(self, *error: object) -> None:
        _current.masks, self._before = self._before, None

    def begin(self, epoch: int, step: int) -> None:
        """Start an evaluation of a step."""
        if (epoch, step) != (self._epoch, self._step):
            self._epoch, self._step, self._plan = epoch, step, self._made
        self._chunks.visit(epoch, step)
        self._at, self._made = 0, []

    def noise(self, shape: Sequence[int], p: float, dtype: torch.dtype) -> Tensor | None:
        """Return the factors of the next call of a layer, 0 or 1/(1 − p̂); None where p̂ = 0. See :class:`Dropout`."""
        call = self._calls.get(self._at)
        wanted = (tuple(shape), p, dtype)
        if call is None or call.wanted != wanted:
            if kept_levels(p) == LEVELS:
                return None
            call = self._calls[self._at] = _Noise(wanted, self._at)
        if self._of_epoch != self._epoch or self._step not in call.steps:
            self._sample(call)
        self._at = call.end
        self._made.append(call)
        return call.of_steps[self._step - call.steps.start]

    def _sample(self, call: _Noise) -> None:
        """Compute the noise of a call; if the step begins as the one before, that of several steps and of all calls."""
        calls, steps = [call], range(self._step, self._step + 1)
        if self._of_epoch != self._epoch:
            for each in self._calls.values():
                each.begin(range(0))
            self._of_epoch = self._epoch
        if self._plan and self._plan[0] is call:
            calls, steps = self._plan, self._chunks.steps(self._plan[-1].end)
        for each in calls:
            each.begin(steps)
        for step in steps:
            seed = digest(self._seed, "dropout", self._epoch, step, size=24)
            bits = self._source.seeded(seed, calls[-1].end)
            for each in calls:
                each.add(bits)
