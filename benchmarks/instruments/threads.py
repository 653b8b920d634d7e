"""CPU threads: how many there are by default, and a block in which there are others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

__all__ = ["DEFAULT_THREADS", "choices", "threads"]

DEFAULT_THREADS = torch.get_num_threads()
"""What PyTorch chose when it was imported."""


def choices() -> tuple[int, ...]:
    """The numbers of threads worth trying: one, and all cores that this process may use."""
    return tuple(sorted({1, len(os.sched_getaffinity(0))}))


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Run the block on ``number`` threads, of PyTorch and of NumPy's BLAS alike; None leaves the defaults.

    Whatever the block does to PyTorch's number is undone at its end.
    """
    torch.set_num_threads(DEFAULT_THREADS if number is None else number)
    try:
        with threadpool_limits(limits=number, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(DEFAULT_THREADS)
