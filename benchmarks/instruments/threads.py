"""Number of CPU threads: the default, the candidates, and a context manager that sets it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits

__all__ = ["DEFAULT_THREADS", "choices", "threads"]

DEFAULT_THREADS = torch.get_num_threads()
"""The number that PyTorch chose when it was imported."""


def choices() -> tuple[int, ...]:
    """Return the numbers of threads to try: one, and the number of cores that this process may use."""
    return tuple(sorted({1, len(os.sched_getaffinity(0))}))


@contextmanager
def threads(number: int | None) -> Iterator[None]:
    """Set the number of threads of PyTorch and of NumPy's BLAS within a block; None keeps the defaults.

    PyTorch's default is restored at the end, even if the block changes the number itself.
    """
    torch.set_num_threads(DEFAULT_THREADS if number is None else number)
    try:
        with threadpool_limits(limits=number, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(DEFAULT_THREADS)
