"""Flushing of denormal numbers to zero on the CPU.

Below 1.2e-38 a float32 is *denormal* (subnormal): its mantissa loses digits until it is zero. Training produces denormals
all the time: the first moment of a dead unit is multiplied by 0.9 at each step, and stays between 1e-45 and 1e-38 from
then on; the square of a gradient of 1e-20 lies there immediately. On many processors an instruction with a denormal operand
or result takes over a hundred cycles instead of one. Denormals that are *flushed* to zero cost nothing, and the change
is negligible for any weight.

The processor has one such mode per thread. PyTorch sets that of the calling thread; this module also sets it for the threads
of PyTorch's OpenMP pool, so that all threads treat a number the same way. Where that is not possible, no mode is
changed, since the last bits must not depend on which thread computed a number.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

__all__ = ["Denormals", "flushes", "flushing_denormals"]

Denormals = Literal["flush", "keep"]

DENORMAL = 1e-39
"""A denormal float32."""

ELEMENTS_PER_THREAD = 1 << 16
"""Elements per thread that make PyTorch use all threads: twice as many as it computes on a single thread."""


@contextmanager
def flushing_denormals(*, enabled: bool = True) -> Iterator[bool]:
    """Context in which denormal operands and results on the CPU are flushed to zero, on all threads currently in use.

    Args:
        enabled: False for a context that does nothing. Default True.

    Yields:
        Whether denormals are flushed; False where this processor or this build of PyTorch cannot do so on all threads.

    >>> with flushing_denormals():
    ...     flushed = float(torch.tensor(1e-30) * 1e-9)
    >>> flushed, float(torch.tensor(1e-30) * 1e-9) > 0
    (0.0, True)
    """
    if not enabled or flushes():
        yield enabled
        return
    run_on_all = _run_on_all(torch.get_num_threads())
    if run_on_all is None:
        yield False
        return
    run_on_all(lambda: torch.set_flush_denormal(True))
    try:
        yield True
    finally:
        run_on_all(lambda: torch.set_flush_denormal(False))


def flushes() -> bool:
    """Whether denormals are flushed to zero in the current thread."""
    return float(torch.tensor(DENORMAL) * 1.0) == 0.0


@functools.cache
def _run_on_all(count: int) -> Callable[[Callable[[], Any]], None] | None:
    """Return a function that runs another one on each of n threads; None if denormals cannot be flushed on all of them."""
    if not torch.set_flush_denormal(False):
        return None
    if count == 1:
        return lambda action: action() and None
    in_region = _parallel_region()
    if in_region is None:
        return None

    def run(action: Callable[[], Any]) -> None:
        in_region(action, count)

    # Test it once. The pool must exist before, since threads that start later inherit the mode of this one.
    vector = torch.full((count * ELEMENTS_PER_THREAD,), DENORMAL) * 1.0
    run(lambda: torch.set_flush_denormal(True))
    flushed = not (vector * 1.0).any()
    run(lambda: torch.set_flush_denormal(False))
    return run if flushed else None


def _parallel_region() -> Callable[[Callable[[], Any], int], None] | None:
    """Return a function that runs another one on n threads of PyTorch's OpenMP pool; None if the pool is not GNU's.

    A compiler translates ``#pragma omp parallel`` into a call of ``GOMP_parallel(function, data, threads, flags)``.
    The pool belongs to the library, so the copy that PyTorch has loaded must be called.
    """
    candidates = sorted(Path(torch.__file__).parent.joinpath("lib").glob("libgomp*.so*"))
    try:
        library = ctypes.CDLL(str(candidates[0]) if candidates else "libgomp.so.1")
        parallel = library.GOMP_parallel
    except (OSError, AttributeError):
        return None
    parallel.restype = None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def run(action: Callable[[], Any], count: int) -> None:
        callback = signature(lambda _: action() and None)
        parallel(ctypes.cast(callback, ctypes.c_void_p), None, count, 0)

    return run
