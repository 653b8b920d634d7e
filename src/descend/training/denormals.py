"""Numbers too small for a full mantissa, and what they cost.

Below 1.2e-38 a float32 is *denormal*: its mantissa loses digits until it is zero. Training makes them all the time: the
first moment of a unit that has died is multiplied by 0.9 at each step and ends, for good, between 1e-45 and 1e-38; the
square of a gradient of 1e-20 starts there. On many processors an instruction that meets one takes over a hundred
cycles in place of one. *Flushed* to zero they cost nothing, and no weight can tell: what they stand for is 1e-38 of
it.

The processor's switch belongs to each thread. PyTorch sets that of the calling one; here the threads of its OpenMP
pool are set as well, so that a number is treated alike wherever it is computed. Where that cannot be done, everything
is left as it is: the last bits shall not depend on which thread did what.
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

TINY = 1e-39
"""A denormal float32."""

SHARED = 1 << 16
"""Numbers for each thread that PyTorch certainly shares out: twice as many as it leaves to one thread."""


@contextmanager
def flushing_denormals(*, wanted: bool = True) -> Iterator[bool]:
    """Inside, denormal results and operands on the CPU are zero, on all threads of the current number.

    Args:
        wanted: False for a context that does nothing.

    Yields:
        Whether they are. False where this processor or this build of PyTorch has no such switch for all threads.

    >>> with flushing_denormals():
    ...     flushed = float(torch.tensor(1e-30) * 1e-9)
    >>> flushed, float(torch.tensor(1e-30) * 1e-9) > 0
    (0.0, True)
    """
    if not wanted or flushes():
        yield wanted
        return
    run = _run_on_all(torch.get_num_threads())
    if run is None:
        yield False
        return
    run(lambda: torch.set_flush_denormal(True))
    try:
        yield True
    finally:
        run(lambda: torch.set_flush_denormal(False))


def flushes() -> bool:
    """Whether denormals are zero now, in this thread."""
    return float(torch.tensor(TINY) * 1.0) == 0.0


@functools.cache
def _run_on_all(count: int) -> Callable[[Callable[[], Any]], None] | None:
    """A function that runs another one on each of so many threads; None where denormals cannot be flushed on all of them."""
    if not torch.set_flush_denormal(False):
        return None
    if count == 1:
        return lambda action: action() and None
    in_region = _parallel_region()
    if in_region is None:
        return None

    def run(action: Callable[[], Any]) -> None:
        in_region(action, count)

    # Tried once. The pool is started first, since threads that start later inherit the switch of this one.
    vector = torch.full((count * SHARED,), TINY) * 1.0
    run(lambda: torch.set_flush_denormal(True))
    obeyed = not (vector * 1.0).any()
    run(lambda: torch.set_flush_denormal(False))
    return run if obeyed else None


def _parallel_region() -> Callable[[Callable[[], Any], int], None] | None:
    """A function that runs another one on threads of PyTorch's OpenMP pool; None where the pool is not GNU's.

    A parallel region is what a compiler makes of ``#pragma omp parallel``: a call of ``GOMP_parallel(function, data,
    threads, flags)``. The pool belongs to the library, so it must be the copy that PyTorch has loaded.
    """
    found = sorted(Path(torch.__file__).parent.joinpath("lib").glob("libgomp*.so*"))
    try:
        library = ctypes.CDLL(str(found[0]) if found else "libgomp.so.1")
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
