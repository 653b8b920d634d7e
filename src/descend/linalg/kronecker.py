"""Stacks of symmetric factors and their inverse roots: what Kronecker-factored methods (K-FAC, Shampoo) share.

A network of many layers has many small factors of few sizes. Those of one size lie in one tensor (k, n, n)
(:class:`Stacking`), and a root of all of them is a few kernels (:func:`inverse_root`).

Which method computes the root was measured, in float32 on one CPU thread (AMD, MKL), for the fourth root of 40 matrices of
64, 16 of 128 and 6 of 256 rows, at a condition of 10⁶ with the smallest eigenvalue at the ridge:

============== =============== ================ ===================================
method         milliseconds    relative error   in products of a stack with itself
============== =============== ================ ===================================
``eigh``       5.7, 9, 17      2e-2             25, 13, 8
``newton``     15, 37, 98      6e-4             44: 4 a step, 11 steps
============== =============== ================ ===================================

The errors fall in proportion to the condition. Those of LAPACK's eigenvalues are 30 times those of products, and still
far below what the statistics of a mini-batch are sure of; so time decides, and on the CPU for the eigenvectors. CUDA devices
solve batches of eigenproblems one after the other, and products are what they are made for. For the inverse itself
Cholesky's factorisation takes a third of the eigenvectors' time, at an error of 4e-3 against 1e-1.
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

_BOLDEST = 0.01
"""The smallest l that Newton's scaling is chosen for. For a smaller one T would nearly vanish where M is 1, and rounding
would be large beside it; measured, this loses no step and keeps a hundred times the accuracy where l was far too small."""


@final
class Stacking:
    """Which tensors of a list have one shape, and can lie in one stack.

    Args:
        shapes: of the tensors, in order. The stacks are in the order in which their shapes first occur.

    Attributes:
        shapes: of the stacks, (k, *shape).
        members: of each stack, as places in the list.

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
        """The stacks, filled with copies of the tensors."""
        return [torch.stack([tensors[place] for place in members]) for members in self.members]

    def parts(self, stacks: Sequence[Tensor]) -> list[Tensor]:
        """The tensors in their order, as views of the stacks."""
        found: dict[int, Tensor] = {}
        for members, stack in zip(self.members, stacks, strict=True):
            found.update(zip(members, stack.unbind(), strict=True))
        return [found[place] for place in range(len(found))]


def largest_eigenvalue(stack: Tensor, iterations: int = 16) -> Tensor:
    """The largest eigenvalue of each positive semidefinite matrix, from below, by power iteration.

    It starts at the column with the largest diagonal entry, so that the first estimate is at least λ/n already: the diagonal
    entry is tr/n or more, and estimates never fall. Nothing waits for the device.

    Args:
        stack: (k, n, n), symmetric and positive semidefinite.
        iterations: products with a vector. Default 16.

    Returns:
        (k,), between λ/n and λ up to rounding; 0 for a matrix of zeros.

    >>> largest_eigenvalue(torch.diag(torch.tensor([1.0, 4.0])).unsqueeze(0))
    tensor([4.])
    """
    tiny = torch.finfo(stack.dtype).tiny
    start = stack.diagonal(dim1=-2, dim2=-1).argmax(-1)
    vector = stack.take_along_dim(start[:, None, None], -1)
    before = torch.ones_like(vector[:, :1])
    for _ in range(iterations):
        # Squares of small numbers vanish, so vectors are brought to height 1 before their length is taken.
        height = vector.abs().amax(-2, keepdim=True).clamp_min(tiny)
        vector = vector / height
        before = torch.linalg.vector_norm(vector, dim=-2, keepdim=True)
        vector = stack @ vector
    height = vector.abs().amax(-2, keepdim=True).clamp_min(tiny)
    length: Tensor = height * torch.linalg.vector_norm(vector / height, dim=-2, keepdim=True)
    return (length / before.clamp_min(tiny))[:, 0, 0]


@torch.no_grad()
def inverse_root(
    stack: Tensor,
    power: int,
    ridge: Tensor | float,
    method: RootMethod = "auto",
) -> Tensor:
    """(A + ridge I)^(-1/power) of each symmetric positive semidefinite matrix A of a stack.

    Three methods. With ε the precision of the type and κ the condition of A + ridge I, the error in norm relative to the root
    is of the order ε κ/power, which rounding A alone would make; for eigenvectors up to 50 times that.

    - ``cholesky``: A + ridge I = L Lᵀ, for power 1.
    - ``eigh``: A = U diag(λ) Uᵀ, eigenvalues that rounding made negative count as 0.
    - ``newton``: products alone. With M₀ = (A + ridge I)/u, u at least the largest eigenvalue, X₀ = I and T = a I − b M

          X⁺ = X T,    M⁺ = M T^power,    until M = I;    (A + ridge I)^(-1/power) = u^(-1/power) X

      (Iannazzo 2006; Guo and Higham 2006). If the spectrum of M lies in [l, 1], that of M⁺ is closest to being one point for

          b/a = (1 − l^(1/power)) / (1 − l^(1 + 1/power)),

      which makes both ends equally small, and a such that the largest value is 1 again; for l = 1 these are Newton's
      a = (power + 1)/power and b = 1/power. That takes half of Newton's steps at κ = 10⁶. l is known from the ridge.

    A matrix for which Cholesky's factorisation fails or Newton's iteration does not end at I is done by ``eigh``. There,
    eigenvalues below ε times the largest count as that: the root of a singular matrix without ridge is finite and bounded.
    A matrix that is not finite gives NaN, and the others of its stack their roots.

    The device is waited for once, to see whether all went well; by ``newton`` twice.

    Args:
        stack: A, (k, n, n).
        power: 1 or more.
        ridge: 0 or more; one, or (k,) of each matrix.
        method: "auto" is Cholesky for power 1, else eigenvectors on the CPU and Newton's iteration elsewhere; the reasons
            are at the head of this file.

    Raises:
        ValueError: a power below 1; Cholesky for another than 1.

    >>> inverse_root(torch.diag(torch.tensor([15.0, 80.0])).unsqueeze(0), 4, 1.0)[0].diagonal()
    tensor([0.5000, 0.3333])
    """
    method = _method(stack, power, method)
    shift = torch.as_tensor(ridge, dtype=stack.dtype, device=stack.device).expand(stack.shape[0])
    if method == "eigh":
        return _by_eigenvectors(stack, power, shift)
    shifted = stack.clone()
    shifted.diagonal(dim1=-2, dim2=-1).add_(shift.unsqueeze(-1))
    found, good = _by_cholesky(shifted) if method == "cholesky" else _by_newton(shifted, power, shift)
    if not bool(good.all()):
        bad = ~good
        found[bad] = _by_eigenvectors(stack[bad], power, shift[bad])
    return found


@torch.no_grad()
def inverse_roots(
    stacks: Sequence[Tensor],
    powers: Sequence[int],
    ridge: float,
    method: RootMethod = "auto",
    *,
    units: Callable[[list[Tensor]], Sequence[Tensor]] = list,
) -> list[Tensor]:
    """(A + ridge u I)^(-1/power) of each matrix of each stack, the ridge in units u of largest eigenvalues.

    Computed as by :func:`inverse_root`. The largest eigenvalues come with the eigenvectors; for the other methods they are
    those of :func:`largest_eigenvalue`, estimates from below.

    Args:
        stacks: of matrices A, (k, n, n) each.
        powers: of each stack.
        ridge: 0 or more.
        method: of :func:`inverse_root`.
        units: makes u, (k,) for each stack, from the largest eigenvalues, (k,) for each stack. By default u is the matrix'
            own; matrices that are parts of one thing may share theirs.

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
    found = []
    for stack, power, each, spectrum, unit in zip(
        stacks, powers, methods, spectra, units(largest), strict=True
    ):
        if spectrum is None:
            found.append(inverse_root(stack, power, ridge * unit, each))
        else:
            found.append(_from_eigenvectors(*spectrum, power, ridge * unit))
    return found


def eigenvectors(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues in rising order (k, n) and eigenvectors (k, n, n) of symmetric matrices.

    LAPACK's routine gives up on some singular matrices, or, in Intel's version, returns vectors of NaN without a word: in
    single precision about one in a hundred of those that have rows of zeros, as units that are never active leave them. Such
    a matrix is done in double precision, and one for which that fails as well is NaN.

    >>> eigenvectors(torch.diag(torch.tensor([3.0, 1.0])).unsqueeze(0))[0]
    tensor([[1., 3.]])
    """
    try:
        values, vectors = torch.linalg.eigh(stack)
        lost = ~torch.isfinite(vectors).all(-1).all(-1)
        if not bool(lost.any()):
            return values, vectors
    except RuntimeError:  # LinAlgError is one
        values, vectors = stack.new_empty(stack.shape[:-1]), torch.empty_like(stack)
        lost = torch.ones(len(stack), dtype=torch.bool)
    for place in lost.nonzero().flatten().tolist():
        values[place], vectors[place] = math.nan, math.nan
        with suppress(RuntimeError):
            found = torch.linalg.eigh(stack[place].double())
            values[place], vectors[place] = found[0].to(stack.dtype), found[1].to(stack.dtype)
    return values, vectors


def _method(stack: Tensor, power: int, method: RootMethod) -> RootMethod:
    if power < 1:
        raise ValueError(f"power must be 1 or more; found {power}")
    if method == "cholesky" and power != 1:
        raise ValueError(f"Cholesky's factorisation gives the inverse alone, power 1; found power {power}")
    if method != "auto":
        return method
    return "cholesky" if power == 1 else "eigh" if stack.device.type == "cpu" else "newton"


def _by_eigenvectors(stack: Tensor, power: int, ridge: Tensor) -> Tensor:
    return _from_eigenvectors(*_spectrum(stack), power, ridge)


def _spectrum(stack: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, of which rounding made none negative, and eigenvectors; NaN for what is not finite."""
    # LAPACK raises at NaN; here it shall come out, so that the first bad number can be found.
    whole = torch.isfinite(stack.abs().amax((-2, -1)))
    if bool(whole.all()):
        values, vectors = eigenvectors(stack)
    else:
        values, vectors = stack.new_full(stack.shape[:-1], math.nan), torch.full_like(stack, math.nan)
        values[whole], vectors[whole] = eigenvectors(stack[whole])
    return values.clamp_min(0.0), vectors


def _from_eigenvectors(values: Tensor, vectors: Tensor, power: int, ridge: Tensor) -> Tensor:
    numbers = torch.finfo(values.dtype)
    values = values + ridge.unsqueeze(-1)
    values = values.maximum(values[:, -1:] * numbers.eps).clamp_min(numbers.tiny)
    half = vectors * values.pow(-0.5 / power).unsqueeze(-2)
    found: Tensor = half @ half.mT
    return (found + found.mT) / 2


def _by_cholesky(shifted: Tensor) -> tuple[Tensor, Tensor]:
    factor, failed = torch.linalg.cholesky_ex(shifted)
    # A factor with a zero on its diagonal would end the inversion of all; what comes of those that failed is not used.
    found = torch.cholesky_inverse(factor.where((failed == 0)[:, None, None], 1.0))
    # Of a matrix it reads one triangle, so what is not finite may lie in the other.
    whole = torch.isfinite(shifted) & torch.isfinite(found)
    return found, (failed == 0) & whole.all(-1).all(-1)


def _by_newton(shifted: Tensor, power: int, ridge: Tensor) -> tuple[Tensor, Tensor]:
    numbers = torch.finfo(shifted.dtype)
    # No entry is larger than the largest of the diagonal. ‖M²‖_F is at least the square of the largest eigenvalue, and near it.
    scale = shifted.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None].clamp_min(numbers.tiny)
    matrix = shifted / scale
    tight = torch.linalg.matrix_norm(matrix @ matrix, keepdim=True).sqrt() * (1 + 8 * numbers.eps)
    upper = scale * tight
    matrix = matrix / tight
    low = (ridge[:, None, None] / upper).clamp(numbers.eps, 1.0)
    eye = torch.eye(shifted.shape[-1], dtype=shifted.dtype, device=shifted.device)
    root = eye
    for _ in range(_steps(float(low.min()), power, numbers.eps)):
        a, b, low = _coefficients(low, power)
        step = a * eye - b * matrix
        root = root @ step
        matrix = matrix @ torch.linalg.matrix_power(step, power)
        matrix = (matrix + matrix.mT) / 2  # rounding that is not symmetric grows
    good = (matrix - eye).abs().amax((-2, -1)) < 64 * numbers.eps * len(eye) ** 0.5
    root = (root + root.mT) / 2 * upper.pow(-1.0 / power)
    return root, good & torch.isfinite(root).all(-1).all(-1)


def _coefficients(low: Tensor, power: int) -> tuple[Tensor, Tensor, Tensor]:
    """a, b, and the lower end of the spectrum after the step, from the lower end before."""
    # In double precision: near 1 both ends of the fraction vanish.
    low_end = low.double()
    end = low_end.clamp_min(_BOLDEST)
    inside = end.pow(1.0 / power)
    near = end > 1 - 1e-6
    ratio = torch.where(near, 1.0 / (power + 1), (1 - inside) / (1 - end * inside).clamp_min(1e-30))
    peak = (power / (power + 1)) ** power / (ratio * (power + 1))
    a = peak.pow(-1.0 / power)
    after = (low_end * (a * (1 - ratio * low_end)).pow(power)).clamp_max(1.0)
    return a.to(low.dtype), (a * ratio).to(low.dtype), after.to(low.dtype)


def _steps(low: float, power: int, eps: float) -> int:
    """The steps after which a spectrum from ``low`` to 1 is one point, and one more against rounding."""
    end, steps = torch.tensor(low, dtype=torch.float64), 1
    while float(end) < 1 - eps and steps < 60:
        _, _, end = _coefficients(end, power)
        steps += 1
    return steps
