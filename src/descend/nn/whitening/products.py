"""Products of stacks of matrices, a group of channels each.

Whitening of large groups is products of matrices and little else. The large ones among them are matmul by the
library that is fastest on this processor, as those of large linear layers are
(:mod:`descend.linalg.products`). The choice follows from the processor alone, and is good to float32's rounding.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from descend.linalg.products import Product, best_library, product

__all__ = ["baddbmm", "matmul"]

LARGE = 2**22
"""Multiplications n · k · m of each matrix from which on oneDNN is used. It breaks even at about a third of this."""


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """The products a b of stacks (G, n, k) and (G, k, m).

    >>> matmul(torch.ones(2, 1, 3), torch.ones(2, 3, 1)).flatten()
    tensor([3., 3.])
    """
    multiply = _faster() if _is_large(a, b) else None
    if multiply is None:
        return a @ b
    found = [multiply(x, y.t(), None) for x, y in zip(a, b, strict=True)]
    return found[0].unsqueeze(0) if len(found) == 1 else torch.stack(found)


def baddbmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """β c + α a b, with c of the shape (G, n, m), or one that broadcasts to it.

    >>> baddbmm(torch.ones(1, 2, 2), torch.eye(2)[None], torch.ones(1, 2, 2), beta=3.0, alpha=-1.0)[0, 0]
    tensor([2., 2.])
    """
    if not _is_large(a, b) or _faster() is None:
        return torch.baddbmm(c, a, b, beta=beta, alpha=alpha)
    found = matmul(a, b)
    return (found if alpha == 1.0 else found.mul_(alpha)).add_(c, alpha=beta)


def _is_large(a: Tensor, b: Tensor) -> bool:
    size = a.shape[1] * a.shape[2] * b.shape[2]
    real = a.dtype is torch.float32 and b.dtype is torch.float32 and a.device.type == "cpu"
    # oneDNN multiplies the rows of a wider matrix in place, without its fast kernels.
    return size >= LARGE and real and _dense(a[0]) and _dense(b[0])


def _dense(matrix: Tensor) -> bool:
    return matrix.is_contiguous() or matrix.t().is_contiguous()


@functools.cache
def _faster() -> Product | None:
    """The product by a library that is faster here than the BLAS; None where there is none."""
    return product(best_library("cpu")[0])
