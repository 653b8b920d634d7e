"""Lanczos' process: the ends of a symmetric matrix' spectrum from products alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Extremes", "lanczos"]


@dataclass(frozen=True)
class Extremes:
    """The smallest and the largest eigenvalue, as far as they are known.

    Args:
        smallest: Ritz value at the lower end: at least the smallest eigenvalue.
        largest: Ritz value at the upper end: at most the largest eigenvalue.
        smallest_error: an eigenvalue lies within this distance of ``smallest``.
        largest_error: likewise of ``largest``.
        products: that were computed.
    """

    smallest: float
    largest: float
    smallest_error: float
    largest_error: float
    products: int


def lanczos(
    product: Callable[[Tensor], Tensor], start: Tensor, *, limit: int = 100, tolerance: float = 1e-6
) -> Extremes:
    """The extreme eigenvalues of a symmetric H (Lanczos 1950), with full reorthogonalisation.

    After k products H is projected on the span of start, H start, ..., H^(k−1) start: a tridiagonal k × k matrix T, whose
    eigenvalues are the Ritz values. With β the norm of the next vector before scaling and y an eigenvector of T, the residual
    ‖H u − θ u‖ = β |y_k| bounds the distance of θ to an eigenvalue (Parlett 1998, section 13.2). Every new vector is made
    orthogonal to all others twice: without this, rounding brings found eigenvalues back as copies. That keeps k vectors.

    Args:
        product: multiplies H with a vector, (n,) to (n,).
        start: drawn at random, (n,): an eigenvector orthogonal to it is never found.
        limit: on products, and at most n. Default 100.
        tolerance: ends when both errors are at most this times the largest modulus. Default 1e-6.

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
        raise ValueError(f"the start must be a vector with a finite length above 0, this has {length}")
    basis = (start / length).unsqueeze(0)
    diagonal: list[float] = []
    beside: list[float] = []
    for count in range(1, min(limit, len(start)) + 1):
        last = basis[-1]
        following = product(last)
        diagonal.append(float(torch.dot(last, following)))
        for _ in range(2):
            following = following - basis.mT @ (basis @ following)
        beta = float(torch.linalg.vector_norm(following))
        extremes = _ritz(diagonal, beside, beta, count)
        scale = max(abs(extremes.smallest), abs(extremes.largest), torch.finfo(start.dtype).tiny)
        done = max(extremes.smallest_error, extremes.largest_error) <= tolerance * scale
        # A vanishing β: the span is invariant, and the Ritz values are eigenvalues.
        if done or beta <= torch.finfo(start.dtype).eps * scale:
            break
        beside.append(beta)
        basis = torch.cat([basis, (following / beta).unsqueeze(0)])
    return extremes


def _ritz(diagonal: list[float], beside: list[float], beta: float, count: int) -> Extremes:
    """The ends of the tridiagonal matrix' spectrum and their residuals, in double precision on the CPU."""
    off = torch.tensor(beside, dtype=torch.float64)
    matrix = torch.diag(torch.tensor(diagonal, dtype=torch.float64))
    matrix = matrix + torch.diag(off, 1) + torch.diag(off, -1)
    values, vectors = torch.linalg.eigh(matrix)
    low, high = (beta * abs(float(vectors[-1, place])) for place in (0, -1))
    return Extremes(float(values[0]), float(values[-1]), low, high, count)
