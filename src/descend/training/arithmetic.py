"""How the arithmetic of training runs: on so many CPU threads, without denormals, and without a trace in the random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from descend.rng import forked
from descend.training.denormals import Denormals, flushing_denormals
from descend.training.threads import using_threads

__all__ = ["arithmetic"]


@contextmanager
def arithmetic(threads: int, device: torch.device, denormals: Denormals = "flush") -> Iterator[None]:
    """Everything that a training computes is computed inside; afterwards all is as it was.

    Args:
        threads: of the CPU.
        device: whose random state is kept, besides the CPU's.
        denormals: what becomes of numbers below the smallest normal one, on the CPU.

    >>> before = torch.get_rng_state()
    >>> with arithmetic(1, torch.device("cpu")):
    ...     _ = torch.rand(2), torch.get_num_threads()
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    with using_threads(threads), flushing_denormals(wanted=denormals == "flush"), forked(device):
        yield
