"""The Lanczos process: extreme eigenvalues of a symmetric matrix from matrix-vector products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Extremes", "lanczos"]


@dataclass(frozen=True)
class Extremes:
    """Estimates of the smallest and the largest eigenvalue, with error bounds.

    Args:
        smallest: smallest Ritz value, an upper bound of the smallest eigenvalue.
        largest: largest Ritz value, a lower bound of the largest eigenvalue.
        smallest_error: an eigenvalue lies within this distance of ``smallest``.
        largest_error: an eigenvalue lies within this distance of ``largest``.
        products: number of products that were computed.
    """

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    products: int


def lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, *, max_iter: int = 100, tolerance: float = 1e-6
) -> Extremes:
    """Estimate the extreme eigenvalues of a symmetric H (Lanczos 1950), with full reorthogonalization.

    After k products, H is projected onto the span of start, H start, ..., H^(k−1) start: a tridiagonal k × k matrix T, whose
    eigenvalues are the Ritz values. With β the norm of the next vector before scaling and y an eigenvector of T, the residual
    ‖H u − θ u‖ = β |y_k| bounds the distance of θ to an eigenvalue (Parlett 1998, section 13.2). Every new vector is
    orthogonalized against all others twice; without this, rounding produces copies of converged eigenvalues. The method
    stores k vectors.

    Args:
        product: function that multiplies H with a vector, (n,) to (n,).
        start: random vector, (n,); an eigenvector orthogonal to it is never found.
        max_iter: maximum number of products; at most n are computed. Default 100.
        tolerance: the process ends when both errors are at most this times the largest modulus. Default 1e-6.

    Raises:
        ValueError: ``start`` is zero or not finite.

    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch._C.Generator ...>
    >>> found = lanczos(lambda v: torch.tensor([-1.0, 2.0, 5.0]) * v, torch.randn(3))
    >>> round(found.smallest, 4), round(found.largest, 4), found.products
    (-1.0, 5.0, 3)
    """
    length = float(torch.linalg.vector_norm(start))
    if not 0.0 < length < float("inf"):
        raise ValueError(f"expected a start vector with a finite norm above 0, got norm {length}")
    basis = (start / length).unsqueeze(0)
    diagonal: list[float] = []
    off_diagonal: list[float] = []
    for count in range(1, min(max_iter, len(start)) + 1):
        last = basis[-1]
        following = product(last)
        diagonal.append(float(torch.dot(last, following)))
        for _ in range(2):
            following = following - basis.mT @ (basis @ following)
        beta = float(torch.linalg.vector_norm(following))
        extremes = _ritz(diagonal, off_diagonal, beta, count)
        scale = max(abs(extremes.smallest), abs(extremes.largest), torch.finfo(start.dtype).tiny)
        done = max(extremes.smallest_error, extremes.largest_error) <= tolerance * scale
        # If β vanishes, the span is invariant and the Ritz values are eigenvalues.
        if done or beta <= torch.finfo(start.dtype).eps * scale:
            break
        off_diagonal.append(beta)
        basis = torch.cat([basis, (following / beta).unsqueeze(0)])
    return extremes


def _ritz(diagonal: list[float], off_diagonal: list[float], beta: float, count: int) -> Extremes:
    """Compute the extreme Ritz values and their residuals, in double precision on the CPU."""
    off = torch.tensor(off_diagonal, dtype=torch.float64)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    low, high = (beta * abs(float(vectors[-1, place])) for place in (0, -1))
    return Extremes(float(values[0]), float(values[-1]), low, high, count)
