"""Products of stacks of matrices, one matrix per group of channels.

Matrix products dominate the time of whitening large groups. Large products use the library that is fastest on this
processor, as for large linear layers (:mod:`descend.linalg.products`). The choice depends only on the processor, and the
results agree up to float32 rounding.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from descend.linalg.products import Product, best_library, product

__all__ = ["baddbmm", "matmul"]

LARGE = 2**22
"""The smallest number of multiplications n · k · m per matrix for which oneDNN is used; it breaks even at about a third."""


def matmul(a: Tensor, b: Tensor) -> Tensor:
    """Return the products a b of stacks (G, n, k) and (G, k, m).

    >>> matmul(torch.ones(2, 1, 3), torch.ones(2, 3, 1)).flatten()
    tensor([3., 3.])
    """
    multiply = _fast_product() if _is_large(a, b) else None
    if multiply is None:
        return a @ b
    products = [multiply(x, y.t(), None) for x, y in zip(a, b, strict=True)]
    return products[0].unsqueeze(0) if len(products) == 1 else torch.stack(products)


def baddbmm(c: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0, alpha: float = 1.0) -> Tensor:
    """Return β c + α a b, with c of the shape (G, n, m) or one that broadcasts to it.

    >>> baddbmm(torch.ones(1, 2, 2), torch.eye(2)[None], torch.ones(1, 2, 2), beta=3.0, alpha=-1.0)[0, 0]
    tensor([2., 2.])
    """
    if not _is_large(a, b) or _fast_product() is None:
        return torch.baddbmm(c, a, b, beta=beta, alpha=alpha)
    product_ab = matmul(a, b)
    return (product_ab if alpha == 1.0 else product_ab.mul_(alpha)).add_(c, alpha=beta)


def _is_large(a: Tensor, b: Tensor) -> bool:
    size = a.shape[1] * a.shape[2] * b.shape[2]
    real = a.dtype is torch.float32 and b.dtype is torch.float32 and a.device.type == "cpu"
    # For a slice of a wider matrix oneDNN does not use its fast kernels.
    return size >= LARGE and real and _dense(a[0]) and _dense(b[0])


def _dense(matrix: Tensor) -> bool:
    return matrix.is_contiguous() or matrix.t().is_contiguous()


@functools.cache
def _fast_product() -> Product | None:
    """Return the product of a library that is faster than the BLAS on this processor; None if there is none."""
    return product(best_library("cpu")[0])
