"""Randomness as a pure function of (seed, stream, epoch, step).

Nothing in descend draws from a generator whose state survives a step. Each use names its stream, and
the generator is seeded afresh from the four numbers. A run killed at any step therefore needs no
random state to go on with the same bits, and a network's draws do not depend on its neighbours in a pack.

>>> key(0, "order", epoch=3) == key(0, "order", epoch=3)
True
>>> len({key(0, "order", 3), key(1, "order", 3), key(0, "dropout", 3), key(0, "order", 4), key(0, "order", 3, 1)})
5
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch

__all__ = ["forked", "generator", "key", "seeder"]


def key(seed: int, stream: str, epoch: int = 0, step: int = 0) -> int:
    """A 63-bit key, uniform over its range, that depends on all four arguments and on nothing else.

    Args:
        seed: the run's seed, any integer of up to 64 bits.
        stream: what the numbers are for: ``"order"``, ``"init"``, ``"step"``, ...
        epoch: the epoch, 0 or more.
        step: the step within the epoch, 0 or more.

    Source: the construction is a keyed hash (BLAKE2b, RFC 7693) of the packed arguments.
    """
    digest = blake2b(
        struct.pack("<qqq", _signed(seed), epoch, step), digest_size=8, key=stream.encode()[:64]
    ).digest()
    return int.from_bytes(digest, "little") >> 1


def _signed(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63


def generator(
    seed: int, stream: str, epoch: int = 0, step: int = 0, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A fresh torch generator for one use.

    >>> torch.equal(torch.rand(3, generator=generator(0, "noise")), torch.rand(3, generator=generator(0, "noise")))
    True
    """
    made = torch.Generator(device=device)
    made.manual_seed(key(seed, stream, epoch, step))
    return made


def seeder(device: torch.device) -> Callable[[int], object]:
    """A function that seeds torch's global generator of ``device``, at the cost of about a microsecond.

    ``torch.manual_seed`` walks every backend; a training step needs only the generator that its layers
    draw from. Seeding a CUDA generator stores a number and does not wait for the device.
    """
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index].manual_seed
    return torch.default_generator.manual_seed


@contextmanager
def forked(device: torch.device | None = None) -> Iterator[None]:
    """Leave torch's global random state as it was, whatever happens inside.

    >>> before = torch.get_rng_state()
    >>> with forked():
    ...     _ = torch.rand(5)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        yield
