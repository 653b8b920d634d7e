"""Timing of a function by repeated calls."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

__all__ = ["seconds_of", "shortest_seconds"]


def seconds_of(step: Callable[[], object], device: torch.device | None = None) -> float:
    """Return the wall-clock seconds of one call, including the kernels that it launches on a CUDA device.

    Args:
        step: the function to time.
        device: the device that it computes on; None for the CPU.
    """
    start = time.perf_counter()
    step()
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def shortest_seconds(
    step: Callable[[], object], *, repeats: int, device: torch.device | None = None
) -> float:
    """Return the shortest of several timings: other programs can only make a call slower.

    Args:
        step: the function to time. The first call may be slower, since it allocates memory.
        repeats: the number of calls.
        device: as in :func:`seconds_of`.

    >>> shortest_seconds(lambda: None, repeats=3) < 1.0
    True
    """
    return min(seconds_of(step, device) for _ in range(repeats))
