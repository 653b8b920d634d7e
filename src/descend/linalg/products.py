"""The library that multiplies the matrices of large linear layers.

PyTorch multiplies float32 matrices on the CPU with its BLAS. If that is Intel MKL and the processor is not an Intel one, MKL
does not use its AVX-512 units; oneDNN, which PyTorch also ships, does, and is about twice as fast for large matrices. A
oneDNN call has more overhead, so small products stay with the BLAS.

Both compute the same sums in float32 but differ in the last bits, so the choice is recorded with a run.
"""

from __future__ import annotations

import functools
import math
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor

__all__ = ["LARGE", "Library", "Product", "best_library", "is_large", "product"]

Library = Literal["blas", "onednn"]
Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, w, b) → x wᵀ + b, with x (n, i), w (o, i) and b (o,) or None."""

LARGE = 2**20
"""Minimum number n · i · o of multiplications for which oneDNN is used. It breaks even at about a fifth of this."""


def product(library: Library) -> Product | None:
    """Return the function by which a library multiplies large matrices; None for the BLAS and for PyTorch without oneDNN.

    >>> product("blas") is None
    True
    """
    if library == "blas" or not torch.backends.mkldnn.is_available():
        return None
    operation = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if operation is None:
        return None
    call = operation.default

    def multiply(x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return cast(Tensor, call(x, w, b, "none", [], ""))

    return multiply


def is_large(x: Tensor, w: Tensor) -> bool:
    """Whether oneDNN is used for the product x wᵀ."""
    return math.prod(x.shape) * w.shape[0] >= LARGE and x.dtype is torch.float32 and x.device.type == "cpu"


def best_library(device: str) -> tuple[Library, str]:
    """Return the faster library for large products on this machine, and the reason.

    >>> best_library("cuda")[0]
    'blas'
    """
    if device != "cpu":
        return "blas", "the arithmetic does not run on the CPU"
    if not torch.backends.mkl.is_available() or product("onednn") is None:
        return "blas", "this PyTorch build offers no alternative"
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or _vendor() == "GenuineIntel":
        return "blas", "PyTorch's BLAS uses all vector units of this processor"
    return "onednn", "oneDNN uses the AVX-512 units of this processor, which PyTorch's BLAS leaves idle"


@functools.cache
def _vendor() -> str:
    """Return the vendor id of the processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("vendor_id"):
                return line.partition(":")[2].strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor().rpartition(" ")[2]
