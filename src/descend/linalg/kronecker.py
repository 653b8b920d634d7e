"""Inverse roots of stacks of symmetric matrices, for Kronecker-factored preconditioners (K-FAC, Shampoo).

A network of many layers has many small factors of few sizes. Factors of equal size are stored in one tensor (k, n, n)
(:class:`Stacking`), and the roots of all of them take a few batched kernels (:func:`inverse_root`).

The default method was chosen by a measurement, in float32 on one CPU thread (AMD, MKL), of the inverse fourth root of 40
matrices of 64 rows, 16 of 128 and 6 of 256, with condition number 10⁶ and the smallest eigenvalue equal to the ridge:

============== =============== ================ =========================================
method         milliseconds    relative error   cost in products of a stack with itself
============== =============== ================ =========================================
``eigh``       5.7, 9, 17      2e-2             25, 13, 8
``newton``     15, 37, 98      6e-4             44: 4 per iteration, 11 iterations
============== =============== ================ =========================================

The errors are proportional to the condition number. Those of LAPACK's eigendecomposition are 30 times larger, but still far
below the statistical error of mini-batch statistics, so the faster method is used: the eigendecomposition on the CPU. CUDA
devices solve batched eigenproblems one after another but are efficient at matrix products. For the inverse itself, the
Cholesky factorization takes a third of the time of the eigendecomposition, with an error of 4e-3 instead of 1e-1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Literal, final

import torch
from torch import Tensor

__all__ = ["RootMethod", "Stacking", "eigenvectors", "inverse_root", "inverse_roots", "largest_eigenvalue"]

RootMethod = Literal["auto", "cholesky", "eigh", "newton"]

_SMALLEST_LOW = 0.01
"""Lower bound of the l from which the scaling of Newton's iteration is computed. For a smaller l, T nearly vanishes at
eigenvalue 1 of M and rounding errors dominate. In measurements this bound costs no additional iteration, and the result is a
hundred times more accurate if l was a severe underestimate."""


@final
class Stacking:
    """Grouping of the tensors of a list by shape, so that tensors of equal shape form one stack.

    Args:
        shapes: shapes of the tensors, in order. The stacks are in the order in which their shapes first occur.

    Attributes:
        shapes: shape of each stack, (k, *shape).
        members: for each stack, the indices of its tensors in the list.

    >>> stacking = Stacking([(2, 2), (3, 3), (2, 2)])
    >>> stacking.shapes, stacking.members
    ([(2, 2, 2), (1, 3, 3)], [[0, 2], [1]])
    >>> stacks = stacking.stack([torch.eye(2), torch.eye(3), 4 * torch.eye(2)])
    >>> [part.trace().item() for part in stacking.parts(stacks)]
    [2.0, 3.0, 8.0]
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, shape in enumerate(shapes):
            groups.setdefault(tuple(shape), []).append(place)
        self.members = list(groups.values())
        self.shapes = [(len(members), *shape) for shape, members in groups.items()]

    def stack(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Copy the tensors into new stacks."""
        return [torch.stack([tensors[place] for place in members]) for members in self.members]

    def parts(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors in their original order, as views of the stacks."""
        views: dict[int, Tensor] = {}
        for members, stack in zip(self.members, stacks, strict=True):
            views.update(zip(members, stack.unbind(), strict=True))
        return [views[place] for place in range(len(views))]


def largest_eigenvalue(stack: Tensor, iterations: int = 16) -> Tensor:
    """Estimate the largest eigenvalue of each positive semidefinite matrix from below, by power iteration.

    The iteration starts at the column with the largest diagonal entry. That entry is at least tr/n and the estimates never
    decrease, so the first estimate is already at least λ/n. It does not synchronize with the device.

    Args:
        stack: (k, n, n), symmetric and positive semidefinite.
        iterations: number of products with a vector. Default 16.

    Returns:
        (k,), between λ/n and λ up to rounding; 0 for a zero matrix.

    >>> largest_eigenvalue(torch.diag(torch.tensor([1.0, 4.0])).unsqueeze(0))
    tensor([4.])
    """
    tiny = torch.finfo(stack.dtype).tiny
    start = stack.diagonal(dim1=-2, dim2=-1).argmax(-1)
    vector = stack.take_along_dim(start[:, None, None], -1)
    previous = torch.ones_like(vector[:, :1])
    for _ in range(iterations):
        # Squares of small numbers underflow, so vectors are scaled to a maximum norm of 1 before their norm is computed.
        height = vector.abs().amax(-2, keepdim=True).clamp_min(tiny)
        vector = vector / height
        previous = torch.linalg.vector_norm(vector, dim=-2, keepdim=True)
        vector = stack @ vector
    height = vector.abs().amax(-2, keepdim=True).clamp_min(tiny)
    length: Tensor = height * torch.linalg.vector_norm(vector / height, dim=-2, keepdim=True)
    return (length / previous.clamp_min(tiny))[:, 0, 0]


@torch.no_grad()
def inverse_root(
    stack: Tensor,
    power: int,
    ridge: Tensor | float,
    method: RootMethod = "auto",
) -> Tensor:
    """Compute (A + ridge I)^(-1/power) of each symmetric positive semidefinite matrix A of a stack.

    There are three methods. With ε the machine precision and κ the condition number of A + ridge I, the relative error in norm
    is of the order ε κ/power, the effect of rounding A alone; with eigenvectors it is up to 50 times larger.

    - ``cholesky``: A + ridge I = L Lᵀ, for power 1.
    - ``eigh``: A = U diag(λ) Uᵀ; eigenvalues that are negative by rounding are set to 0.
    - ``newton``: matrix products only. With M₀ = (A + ridge I)/u, u at least the largest eigenvalue, X₀ = I and T = a I − b M

          X⁺ = X T,    M⁺ = M T^power,    until M = I;    (A + ridge I)^(-1/power) = u^(-1/power) X

      (Iannazzo 2006; Guo and Higham 2006). If the spectrum of M lies in [l, 1], that of M⁺ is narrowest for

          b/a = (1 − l^(1/power)) / (1 − l^(1 + 1/power)),

      which makes both of its ends equally small, and the a for which its largest value is 1 again; for l = 1 these are Newton's
      a = (power + 1)/power and b = 1/power. At κ = 10⁶ this halves the number of iterations. l is known from the ridge.

    If the Cholesky factorization of a matrix fails, or Newton's iteration does not converge to I, ``eigh`` is used for that
    matrix. It raises eigenvalues below ε times the largest one to that value, so the root of a singular matrix without a ridge
    is finite and bounded. A matrix that is not finite yields NaN and does not affect the other matrices of its stack.

    The function synchronizes with the device once, to check for failures; with ``newton`` twice.

    Args:
        stack: A, (k, n, n).
        power: integer, 1 or more.
        ridge: 0 or more; one value, or (k,), one for each matrix.
        method: "auto" selects Cholesky for power 1, otherwise eigenvectors on the CPU and Newton's iteration on other devices;
            the module docstring has the reasons.

    Raises:
        ValueError: the power is below 1, or not 1 with Cholesky.

    >>> inverse_root(torch.diag(torch.tensor([15.0, 80.0])).unsqueeze(0), 4, 1.0)[0].diagonal()
    tensor([0.5000, 0.3333])
    """
    method = _method(stack, power, method)
    shift = torch.as_tensor(ridge, dtype=stack.dtype, device=stack.device).expand(stack.shape[0])
    if method == "eigh":
        return _by_eigenvectors(stack, power, shift)
    shifted = stack.clone()
    shifted.diagonal(dim1=-2, dim2=-1).add_(shift.unsqueeze(-1))
    roots, converged = _by_cholesky(shifted) if method == "cholesky" else _by_newton(shifted, power, shift)
    if not bool(converged.all()):
        failed = ~converged
        roots[failed] = _by_eigenvectors(stack[failed], power, shift[failed])
    return roots


@torch.no_grad()
def inverse_roots(
    stacks: Sequence[Tensor],
    powers: Sequence[int],
    ridge: float,
    method: RootMethod = "auto",
    *,
    units: Callable[[list[Tensor]], Sequence[Tensor]] = list,
) -> list[Tensor]:
    """Compute (A + ridge u I)^(-1/power) of each matrix of several stacks, with a ridge relative to the largest eigenvalue u.

    The roots are computed as by :func:`inverse_root`. The largest eigenvalues are by-products of the eigendecomposition; for
    the other methods they are the estimates from below of :func:`largest_eigenvalue`.

    Args:
        stacks: stacks of matrices A, (k, n, n) each.
        powers: power of each stack.
        ridge: 0 or more.
        method: as in :func:`inverse_root`.
        units: function that computes u, (k,) for each stack, from the largest eigenvalues, (k,) for each stack. By default u is
            the largest eigenvalue of the matrix itself; the blocks of one matrix may share a common u.

    Raises:
        ValueError: as :func:`inverse_root`.

    >>> stack = torch.diag_embed(torch.tensor([[1.0, 4.0], [0.0, 1.0]]))
    >>> [root] = inverse_roots([stack], [2], 3.0)
    >>> root.diagonal(dim1=-2, dim2=-1)  # 13, 16 and 3, 4
    tensor([[0.2774, 0.2500],
            [0.5774, 0.5000]])
    >>> [root] = inverse_roots([stack], [2], 3.0, units=lambda largest: [each.max().expand(2) for each in largest])
    >>> root.diagonal(dim1=-2, dim2=-1)  # 13, 16 and 12, 13
    tensor([[0.2774, 0.2500],
            [0.2887, 0.2774]])
    """
    methods = [_method(stack, power, method) for stack, power in zip(stacks, powers, strict=True)]
    spectra = [
        _spectrum(stack) if each == "eigh" else None for stack, each in zip(stacks, methods, strict=True)
    ]
    largest = [
        largest_eigenvalue(stack) if spectrum is None else spectrum[0][:, -1]
        for stack, spectrum in zip(stacks, spectra, strict=True)
    ]
    roots = []
    for stack, power, each, spectrum, unit in zip(
        stacks, powers, methods, spectra, units(largest), strict=True
    ):
        if spectrum is None:
            roots.append(inverse_root(stack, power, ridge * unit, each))
        else:
            roots.append(_from_eigenvectors(*spectrum, power, ridge * unit))
    return roots


def eigenvectors(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the eigenvalues (k, n), in ascending order, and the eigenvectors (k, n, n) of symmetric matrices.

    The LAPACK routine fails for some singular matrices, or, in Intel's implementation, silently returns NaN: in single
    precision for about one in a hundred matrices with zero rows, which arise from units that are never active. Such a
    matrix is decomposed in double precision; if that fails as well, the result is NaN.

    >>> eigenvectors(torch.diag(torch.tensor([3.0, 1.0])).unsqueeze(0))[0]
    tensor([[1., 3.]])
    """
    try:
        values, vectors = torch.linalg.eigh(stack)
        failed = ~torch.isfinite(vectors).all(-1).all(-1)
        if not bool(failed.any()):
            return values, vectors
    except RuntimeError:  # the base class of LinAlgError
        values, vectors = stack.new_empty(stack.shape[:-1]), torch.empty_like(stack)
        failed = torch.ones(len(stack), dtype=torch.bool)
    for index in failed.nonzero().flatten().tolist():
        values[index], vectors[index] = math.nan, math.nan
        with suppress(RuntimeError):
            pair = torch.linalg.eigh(stack[index].double())
            values[index], vectors[index] = pair[0].to(stack.dtype), pair[1].to(stack.dtype)
    return values, vectors


def _method(stack: Tensor, power: int, method: RootMethod) -> RootMethod:
    if power < 1:
        raise ValueError(f"power must be 1 or more; got {power}")
    if method == "cholesky" and power != 1:
        raise ValueError(f"the Cholesky factorization only yields the inverse, power 1; got power {power}")
    if method != "auto":
        return method
    return "cholesky" if power == 1 else "eigh" if stack.device.type == "cpu" else "newton"


def _by_eigenvectors(stack: Tensor, power: int, ridge: Tensor) -> Tensor:
    return _from_eigenvectors(*_spectrum(stack), power, ridge)


def _spectrum(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Compute eigenvalues, clamped to 0 or more, and eigenvectors; NaN for matrices that are not finite."""
    # LAPACK raises an error for NaN; here NaN is propagated so that the first non-finite number can be located.
    finite = torch.isfinite(stack.abs().amax((-2, -1)))
    if bool(finite.all()):
        values, vectors = eigenvectors(stack)
    else:
        values, vectors = stack.new_full(stack.shape[:-1], math.nan), torch.full_like(stack, math.nan)
        values[finite], vectors[finite] = eigenvectors(stack[finite])
    return values.clamp_min(0.0), vectors


def _from_eigenvectors(values: Tensor, vectors: Tensor, power: int, ridge: Tensor) -> Tensor:
    info = torch.finfo(values.dtype)
    values = values + ridge.unsqueeze(-1)
    values = values.maximum(values[:, -1:] * info.eps).clamp_min(info.tiny)
    half = vectors * values.pow(-0.5 / power).unsqueeze(-2)
    root: Tensor = half @ half.mT
    return (root + root.mT) / 2


def _by_cholesky(shifted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverses, and which of them are valid."""
    factor, failed = torch.linalg.cholesky_ex(shifted)
    # A zero on the diagonal of one factor would abort the inversion of all; the results of failed matrices are not used.
    inverse = torch.cholesky_inverse(factor.where((failed == 0)[:, None, None], 1.0))
    # The factorization reads one triangle only, so the other one may contain entries that are not finite.
    finite = torch.isfinite(shifted) & torch.isfinite(inverse)
    return inverse, (failed == 0) & finite.all(-1).all(-1)


def _by_newton(shifted: Tensor, power: int, ridge: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse roots, and which of them have converged."""
    info = torch.finfo(shifted.dtype)
    # No entry exceeds the largest diagonal entry. ‖M²‖_F is an upper bound of the squared largest eigenvalue, and close to it.
    scale = shifted.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None].clamp_min(info.tiny)
    matrix = shifted / scale
    tight = torch.linalg.matrix_norm(matrix @ matrix, keepdim=True).sqrt() * (1 + 8 * info.eps)
    upper = scale * tight
    matrix = matrix / tight
    low = (ridge[:, None, None] / upper).clamp(info.eps, 1.0)
    eye = torch.eye(shifted.shape[-1], dtype=shifted.dtype, device=shifted.device)
    root = eye
    for _ in range(_iterations(float(low.min()), power, info.eps)):
        a, b, low = _coefficients(low, power)
        step = a * eye - b * matrix
        root = root @ step
        matrix = matrix @ torch.linalg.matrix_power(step, power)
        matrix = (matrix + matrix.mT) / 2  # asymmetric rounding errors would grow
    converged = (matrix - eye).abs().amax((-2, -1)) < 64 * info.eps * len(eye) ** 0.5
    root = (root + root.mT) / 2 * upper.pow(-1.0 / power)
    return root, converged & torch.isfinite(root).all(-1).all(-1)


def _coefficients(low: Tensor, power: int) -> tuple[Tensor, Tensor, Tensor]:
    """Compute a, b and the lower end of the spectrum after an iteration, from the lower end before it."""
    # In double precision, since numerator and denominator both vanish near 1.
    low_end = low.double()
    end = low_end.clamp_min(_SMALLEST_LOW)
    inside = end.pow(1.0 / power)
    near = end > 1 - 1e-6
    ratio = torch.where(near, 1.0 / (power + 1), (1 - inside) / (1 - end * inside).clamp_min(1e-30))
    peak = (power / (power + 1)) ** power / (ratio * (power + 1))
    a = peak.pow(-1.0 / power)
    after = (low_end * (a * (1 - ratio * low_end)).pow(power)).clamp_max(1.0)
    return a.to(low.dtype), (a * ratio).to(low.dtype), after.to(low.dtype)


def _iterations(low: float, power: int, eps: float) -> int:
    """Number of iterations that contract the spectrum [low, 1] to a point, plus one against rounding errors."""
    end, count = torch.tensor(low, dtype=torch.float64), 1
    while float(end) < 1 - eps and count < 60:
        _, _, end = _coefficients(end, power)
        count += 1
    return count
