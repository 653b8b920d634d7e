"""Inverse square roots of covariance matrices, and their derivatives for repeated eigenvalues.

For a symmetric matrix S = U diag(λ) Uᵀ and f(λ) = λ^(-1/2) the derivative in a direction E is (Daleckii and
Krein 1965)

    Df(S)[E] = U (K ∘ (Uᵀ E U)) Uᵀ,     K_ij = (f(λ_i) - f(λ_j)) / (λ_i - λ_j),  K_ii = f'(λ_i).

Automatic differentiation of ``torch.linalg.eigh`` computes the derivatives of U, which contain 1/(λ_i - λ_j) and do not
exist for repeated eigenvalues. The derivative of f(S) exists, since the difference cancels:

    K_ij = -1 / (√λ_i √λ_j (√λ_i + √λ_j)).

For a symmetric S the map E -> Df(S)[E] is self-adjoint, so the same formula maps dL/df(S) to dL/dS. This holds for any
power series of S as well, so that the backward pass of a Newton iteration, a polynomial of S, is its forward-mode
derivative.
"""

from __future__ import annotations

from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from descend.errors import UserError
from descend.linalg.kronecker import eigenvectors
from descend.nn.whitening.products import baddbmm, matmul
from descend.nn.whitening.spectrum import newton_differences, newton_values

__all__ = ["NewtonRoot", "Root", "SpectralRoot", "power_series"]

Backward = Literal["exact", "power_iteration"]

LARGE = 128
"""The smallest group size for which Newton's polynomial is computed from an eigendecomposition on the CPU."""


class Root(Protocol):
    """A method that computes W = (S + ε I)^(-1/2) of a stack of covariances (G, d, d), and its derivative."""

    def of(self, covariance: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return W (G, d, d), and the tensors that :meth:`gradient` needs."""

    def gradient(self, of_root: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
        """Return dL/dS from a symmetric dL/dW, (G, d, d)."""

    def differentiable(self, covariance: Tensor) -> Tensor:
        """Return W, by operations that autograd can differentiate any number of times."""


class SpectralRoot:
    """Inverse square root by an eigendecomposition.

    Args:
        eps: ε, above 0, added to the eigenvalues after negative ones, which are due to rounding, are set to 0.
        backward: ``"exact"``, or ``"power_iteration"`` for :func:`power_series` instead of 1/(λ_i - λ_j). Default
            ``"exact"``.
        iterations: the number of power iterations. Default 19.

    >>> S = 4.0 * torch.eye(2).unsqueeze(0)
    >>> root = SpectralRoot(eps=1e-12)
    >>> W, saved = root.of(S)
    >>> W[0]
    tensor([[0.5000, 0.0000],
            [0.0000, 0.5000]])
    >>> root.gradient(torch.eye(2).unsqueeze(0), saved)[0]      # f'(4) = -1/16
    tensor([[-0.0625,  0.0000],
            [ 0.0000, -0.0625]])
    """

    def __init__(self, eps: float, backward: Backward = "exact", iterations: int = 19) -> None:
        self.eps, self.backward, self.iterations = eps, backward, iterations

    def of(self, covariance: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return W, and the eigenvectors and eigenvalues. W is NaN if the covariance is not finite."""
        # LAPACK raises an error for NaN; here the result is NaN, so that the check for NaN locates its origin.
        values, vectors = eigenvectors(covariance.nan_to_num(0.0, 0.0, 0.0))
        values = values.clamp_min(0.0) + self.eps
        root = matmul(vectors * values.rsqrt().unsqueeze(-2), vectors.mT)
        return root + (covariance - covariance), (vectors, values)

    def gradient(self, of_root: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
        """Return dL/dS by the formula in the docstring of this module."""
        vectors, values = saved
        inner = matmul(matmul(vectors.mT, of_root), vectors)
        return matmul(matmul(vectors, self._divided_differences(values) * inner), vectors.mT)

    def _divided_differences(self, values: Tensor) -> Tensor:
        """Return the matrix K."""
        row, column = values.unsqueeze(-1), values.unsqueeze(-2)
        if self.backward == "exact":
            return -1.0 / (row * column.sqrt() + column * row.sqrt())
        off_diagonal = (row.rsqrt() - column.rsqrt()) * power_series(values, self.iterations)
        return off_diagonal.diagonal_scatter(-0.5 * values.pow(-1.5), dim1=-2, dim2=-1)

    def differentiable(self, covariance: Tensor) -> Tensor:
        """Return W as the inverse of the square root, whose derivative solves a Lyapunov equation.

        Raises:
            UserError: backward is ``"power_iteration"``, which is not the derivative of a function.
        """
        if self.backward != "exact":
            raise UserError(
                "decorrelated batch norm with backward='power_iteration' has an approximate gradient, which cannot be "
                "differentiated; a gradient penalty needs backward='exact'"
            )
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        root: Tensor = _SquareRoot.apply(covariance + self.eps * eye, self.eps)
        inverse: Tensor = torch.linalg.inv(root)
        return inverse


def power_series(values: Tensor, terms: int) -> Tensor:
    """Return the approximation of 1/(λ_i - λ_j) by power iteration, (..., d, d), which is finite for repeated eigenvalues.

    For λ_i ≥ λ_j and q = λ_j/λ_i it is the geometric series (1 + q + ... + q^(terms-1)) / λ_i
    = (1 - q^terms) / (λ_i - λ_j); it is antisymmetric, and 0 on the diagonal. It is the derivative of ``terms`` steps of
    power iteration that starts at an eigenvector.

    Args:
        values: positive eigenvalues (..., d).
        terms: the number of terms. The relative error is q^terms.

    Source: Wang, Dang, Hu, Fua and Salzmann 2019, Backpropagation-Friendly Eigendecomposition.

    >>> power_series(torch.tensor([1.0, 4.0]), 30)
    tensor([[ 0.0000, -0.3333],
            [ 0.3333,  0.0000]])
    >>> power_series(torch.tensor([2.0, 2.0]), 4)[0, 1].abs()
    tensor(2.)
    """
    row, column = values.unsqueeze(-1), values.unsqueeze(-2)
    larger, ratio = torch.maximum(row, column), torch.minimum(row, column) / torch.maximum(row, column)
    total = torch.ones_like(ratio)
    for _ in range(terms - 1):  # Horner's method
        total = total * ratio + 1.0
    index = torch.arange(values.shape[-1], device=values.device)
    # Equal eigenvalues are ordered by their indices.
    greater = (row > column) | ((row == column) & (index.unsqueeze(-1) > index))
    sign = greater.to(values.dtype) - greater.mT.to(values.dtype)
    return sign * total / larger


class NewtonRoot:
    """Inverse square root by Newton's iteration, a polynomial of S that needs no eigendecomposition.

    With t = tr(S + ε I) and N = (S + ε I)/t,

        P_0 = I,   P_(k+1) = (3 P_k - P_k³ N)/2,   W = P_T / √t.

    It converges for any positive definite N of trace 1, and fastest for the largest eigenvalues. In this form, rounding
    errors that do not commute with N grow after convergence. The implementation therefore also iterates Q_k = N P_k,

        B_k = (3 I - P_k Q_k)/2,   P_(k+1) = B_k P_k,   Q_(k+1) = Q_k B_k,   Q_0 = N,

    which are the same polynomials of N and stable (Higham 2008, Functions of Matrices, section 6.3). This takes 3 (T - 1)
    matrix products, and twice as many for the gradient. On a CPU the eigendecomposition of a large matrix costs as much as
    about twenty products; there the same polynomial and its derivative are computed from eigenvalues and eigenvectors
    (:mod:`descend.nn.whitening.spectrum`).

    Args:
        iterations: T, the number of steps.
        eps: ε, added to the diagonal of S.

    >>> W, _ = NewtonRoot(iterations=20, eps=1e-12).of(torch.diag(torch.tensor([1.0, 4.0])).unsqueeze(0))
    >>> W[0].diagonal()
    tensor([1.0000, 0.5000])
    """

    def __init__(self, iterations: int, eps: float) -> None:
        self.iterations, self.eps = iterations, eps

    def _normalize(self, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        shifted = covariance + self.eps * eye
        trace = shifted.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        return shifted / trace, trace, eye

    def of(self, covariance: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return W, and the eigenvalues and eigenvectors of N, or Q_k, P_k and B_k of each step, for the gradient."""
        normalized, trace, eye = self._normalize(covariance)
        if self._uses_eigendecomposition(covariance):
            # As in SpectralRoot, the result is NaN if the covariance is not finite.
            values, vectors = eigenvectors(normalized.nan_to_num(0.0, 0.0, 0.0))
            root = matmul(vectors * newton_values(values, self.iterations).unsqueeze(-2), vectors.mT)
            return root * trace.rsqrt() + (covariance - covariance), (
                trace,
                root,
                normalized,
                values,
                vectors,
            )
        # The first step needs no product, since P_0 = I.
        factor = 1.5 * eye - 0.5 * normalized
        root, square = factor, normalized
        steps = [normalized, factor]
        for _ in range(self.iterations - 1):
            square = matmul(square, factor)
            factor = baddbmm(eye, root, square, beta=1.5, alpha=-0.5)
            steps += [square, root, factor]
            root = matmul(factor, root)
        return root * trace.rsqrt(), (trace, root, *steps)

    def gradient(self, of_root: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
        """Return dL/dS: the derivative of the iteration in the direction dL/dP, plus the part through the trace."""
        trace, last, normalized, *rest = saved
        direction = of_root * trace.rsqrt()
        if self._uses_eigendecomposition(of_root):
            values, vectors = rest
            inner = matmul(matmul(vectors.mT, direction), vectors)
            inner *= newton_differences(values, self.iterations)
            d_root = matmul(matmul(vectors, inner), vectors.mT)
        else:
            d_root = self._tangent(direction, normalized, rest)
        through_scale = -0.5 * (direction * last).sum((-2, -1))
        through_norm = -(d_root * normalized).sum((-2, -1))
        gradient = d_root / trace
        gradient.diagonal(dim1=-2, dim2=-1).add_(
            (through_scale + through_norm).unsqueeze(-1) / trace.squeeze(-1)
        )
        return 0.5 * (gradient + gradient.mT)

    def _uses_eigendecomposition(self, like: Tensor) -> bool:
        return like.device.type == "cpu" and like.shape[-1] >= LARGE and self.iterations > 3

    def _tangent(self, direction: Tensor, normalized: Tensor, steps: list[Tensor]) -> Tensor:
        """Return the derivative of P_T in a direction, step by step."""
        first, *rest = steps
        d_root = -0.5 * direction
        d_square = baddbmm(matmul(direction, first), normalized, d_root)
        for start in range(0, len(rest), 3):
            square, root, factor = rest[start : start + 3]
            d_factor = baddbmm(matmul(d_root, square), root, d_square).mul_(-0.5)
            d_root = baddbmm(matmul(d_factor, root), factor, d_root)
            if start + 3 < len(rest):
                d_square = baddbmm(matmul(d_square, factor), square, d_factor)
        return d_root

    def differentiable(self, covariance: Tensor) -> Tensor:
        """Return W by the iteration for P_k and Q_k."""
        normalized, trace, eye = self._normalize(covariance)
        root, square = eye.expand_as(normalized), normalized
        for _ in range(self.iterations):
            factor = 1.5 * eye - 0.5 * (root @ square)
            root, square = factor @ root, square @ factor
        return root * trace.rsqrt()


class _SquareRoot(torch.autograd.Function):
    """R = S^(1/2). Since R R = S, dR solves the Lyapunov equation R dR + dR R = dS."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, floor: float) -> Tensor:
        values, vectors = eigenvectors(matrix.nan_to_num(0.0, 0.0, 0.0))
        root: Tensor = (vectors * values.clamp_min(floor).sqrt().unsqueeze(-2)) @ vectors.mT
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (root,) = ctx.saved_tensors
        gradient = gradients[0]
        return _Lyapunov.apply(root, 0.5 * (gradient + gradient.mT)), None


class _Lyapunov(torch.autograd.Function):
    """The solution X of R X + X R = Q, for a positive definite R and a symmetric Q. Its derivatives have the same form."""

    @staticmethod
    def forward(ctx: Any, root: Tensor, right: Tensor) -> Tensor:
        values, vectors = eigenvectors(root)
        inner = (vectors.mT @ right @ vectors) / (values.unsqueeze(-1) + values.unsqueeze(-2))
        solution: Tensor = vectors @ inner @ vectors.mT
        ctx.save_for_backward(root, solution)
        return solution

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        root, solution = ctx.saved_tensors
        gradient = gradients[0]
        of_right = _Lyapunov.apply(root, 0.5 * (gradient + gradient.mT))
        through = of_right @ solution
        return -(through + through.mT), of_right
