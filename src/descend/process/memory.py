"""Requests for more memory than there is, in words."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["memory_shortage", "size_text", "total_memory"]

_REQUESTED = re.compile(r"allocate ([\d.]+) ?([KMGTPE]i?B|bytes)")
"""The amount in a message of NumPy, of PyTorch's allocators for the CPU, or of that for CUDA devices."""

_SIGNS = ("allocate memory", "Storage size calculation overflowed", "Overflow when unpacking long")
"""What PyTorch's messages say for a size that memory does not have, that overflows, or that is not a 64-bit integer."""

_CONTAINER_LIMIT = "/sys/fs/cgroup/memory.max"

_UNITS = {unit: 1024**power for power, unit in enumerate(("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"))}


def memory_shortage(cause: BaseException) -> str:
    """Return in words that an exception reports a lack of memory; an empty string for other exceptions.

    >>> memory_shortage(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 640000000000 bytes."))
    'not enough memory: 596 GiB were requested at once'
    >>> memory_shortage(MemoryError()), memory_shortage(RuntimeError("shapes differ"))
    ('not enough memory', '')
    """
    message = str(cause)
    known = isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError"
    if not known and not any(sign in message for sign in _SIGNS):
        return ""
    found = _REQUESTED.search(message)
    if found is None:
        return "not enough memory"
    unit = found[2] if found[2] in _UNITS else found[2].replace("B", "iB")
    return f"not enough memory: {size_text(float(found[1]) * _UNITS[unit])} were requested at once"


def size_text(size: float) -> str:
    """Return a number of bytes in a readable unit.

    >>> size_text(1536), size_text(3 * 2**40)
    ('1.5 KiB', '3 TiB')
    """
    unit = "bytes"
    for unit in _UNITS:
        if size < 1024 * _UNITS[unit]:
            break
    return f"{size / _UNITS[unit]:.3g} {unit}"


def total_memory() -> int | None:
    """Return the memory of this machine, or of the container it is, in bytes; None if it is unknown."""
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        size = min(size, int(Path(_CONTAINER_LIMIT).read_text(encoding="ascii")))
    return size
