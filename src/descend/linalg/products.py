"""Which library multiplies the matrices of large linear layers.

PyTorch multiplies float32 matrices on the CPU with its BLAS. Where that is Intel's MKL and the processor another
maker's, MKL does not use the processor's AVX-512 units; oneDNN, which PyTorch brings as well, does, and is about
twice as fast on large matrices. Its call costs more, so small products stay with the BLAS.

Both compute the same sums in float32 and differ in their last bits, so the choice is recorded with a run.
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
"""(x, w, b) -> x wᵀ + b, with x (n, i), w (o, i) and b (o,) or None."""

LARGE = 2**20
"""Multiplications n · i · o of a product from which on oneDNN is used. It breaks even at about a fifth of this."""


def product(library: Library) -> Product | None:
    """The product of large matrices by a library; None for the BLAS, and where this PyTorch has no oneDNN.

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
    """Whether x wᵀ is a product that oneDNN is used for."""
    return math.prod(x.shape) * w.shape[0] >= LARGE and x.dtype is torch.float32 and x.device.type == "cpu"


def best_library(device: str) -> tuple[Library, str]:
    """The faster library for large products here, and why.

    >>> best_library("cuda")[0]
    'blas'
    """
    if device != "cpu":
        return "blas", "the arithmetic runs on another device"
    if not torch.backends.mkl.is_available() or product("onednn") is None:
        return "blas", "this PyTorch has no other choice"
    if torch.backends.cpu.get_cpu_capability() != "AVX512" or _maker() == "GenuineIntel":
        return "blas", "PyTorch's BLAS uses all of this processor"
    return "onednn", "uses this processor's AVX-512, which PyTorch's BLAS leaves idle"


@functools.cache
def _maker() -> str:
    """The maker of the processor, as it names itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("vendor_id"):
                return line.partition(":")[2].strip()
    except (OSError, UnicodeDecodeError):
        pass
    return platform.processor().rpartition(" ")[2]
