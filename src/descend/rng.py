"""Random numbers as a pure function of (seed, stream, epoch, step).

descend never uses a generator whose state survives a step. Each use specifies its stream, and
the generator is seeded from the four values. A run that is killed at any step therefore needs no saved
random state to resume with the same bits, and the random numbers of a network do not depend on the other members of a
pack.

>>> key(0, "order", epoch=3) == key(0, "order", epoch=3)
True
>>> len({key(0, "order", 3), key(1, "order", 3), key(0, "step", 3), key(0, "order", 4), key(0, "order", 3, 1)})
5
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

import torch

from descend.process import exclusive

__all__ = ["digest", "forked", "generator", "key", "seeder"]


def key(seed: int, stream: str, epoch: int = 0, step: int = 0) -> int:
    """Return a 63-bit key, uniformly distributed, that is a pure function of the four arguments.

    Args:
        seed: the run's seed, any integer of up to 64 bits.
        stream: purpose of the random numbers: ``"order"``, ``"init"``, ``"step"``, ...
        epoch: the epoch, 0 or more.
        step: the step within the epoch, 0 or more.

    Source: the construction is a keyed hash (BLAKE2b, RFC 7693) of the packed arguments.
    """
    return int.from_bytes(digest(seed, stream, epoch, step, size=8), "little") >> 1


def digest(seed: int, stream: str, epoch: int = 0, step: int = 0, *, size: int) -> bytes:
    """Return ``size`` bytes, at most 64, that are a pure function of the other arguments; see :func:`key`."""
    packed = struct.pack("<qqq", _signed(seed), epoch, step)
    return blake2b(packed, digest_size=size, key=stream.encode()[:64]).digest()


def _signed(seed: int) -> int:
    return (seed + 2**63) % 2**64 - 2**63


def generator(
    seed: int, stream: str, epoch: int = 0, step: int = 0, *, device: torch.device | str = "cpu"
) -> torch.Generator:
    """Return a new torch generator, seeded with :func:`key`.

    >>> torch.equal(torch.rand(3, generator=generator(0, "noise")), torch.rand(3, generator=generator(0, "noise")))
    True
    """
    seeded = torch.Generator(device=device)
    seeded.manual_seed(key(seed, stream, epoch, step))
    return seeded


def seeder(device: torch.device) -> Callable[[int], object]:
    """Return a function that seeds torch's global generator of a device in about a microsecond.

    ``torch.manual_seed`` seeds the generators of all backends; a training step needs only the one that its layers
    use. Seeding a CUDA generator stores a number and does not synchronize with the device.
    """
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        return torch.cuda.default_generators[index].manual_seed
    return torch.default_generator.manual_seed


@contextmanager
def forked(device: torch.device | None = None) -> Iterator[None]:
    """Context manager that restores torch's global random state on exit, also after an exception.

    One thread of the process is in it at a time (:func:`descend.process.exclusive`), so that what a thread seeds is what
    it uses.

    Args:
        device: a CUDA device whose state is restored too.

    >>> before = torch.get_rng_state()
    >>> with forked():
    ...     _ = torch.rand(5)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    devices = [device] if device is not None and device.type == "cuda" else []
    with exclusive(), torch.random.fork_rng(devices=devices):
        yield
