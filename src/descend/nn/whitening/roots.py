"""The inverse square root of covariance matrices, and its derivative where eigenvalues repeat.

For a symmetric matrix S = U diag(λ) Uᵀ and f(λ) = λ^(-1/2) the derivative in a direction E is (Daleckii and
Krein 1965)

    Df(S)[E] = U (K ∘ (Uᵀ E U)) Uᵀ,     K_ij = (f(λ_i) - f(λ_j)) / (λ_i - λ_j),  K_ii = f'(λ_i).

Automatic differentiation of ``torch.linalg.eigh`` computes the derivatives of U, which hold 1/(λ_i - λ_j) and
do not exist where eigenvalues repeat; the derivative of f(S) does, since the difference divides out:

    K_ij = -1 / (√λ_i √λ_j (√λ_i + √λ_j)).

For a symmetric S the map E -> Df(S)[E] is its own adjoint, so the same formula takes dL/df(S) to dL/dS. That
holds for any power series of S as well, so a Newton iteration, which is a polynomial of S, is differentiated
backward by running it forward with a tangent.
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
"""Channels of a group from which on Newton's polynomial is computed from eigenvectors, where that is faster."""


class Root(Protocol):
    """A way to compute W = (S + ε I)^(-1/2) of a stack of covariances (G, d, d), and its derivative."""

    def of(self, covariance: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """W (G, d, d), and what :meth:`gradient` needs."""

    def gradient(self, of_root: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
        """dL/dS from a symmetric dL/dW, (G, d, d)."""

    def differentiable(self, covariance: Tensor) -> Tensor:
        """W by operations that autograd differentiates as often as wanted."""


class SpectralRoot:
    """The inverse root through eigenvectors.

    Args:
        eps: ε, above 0. Eigenvalues that rounding made negative count as 0 before it is added.
        backward: "exact", or "power_iteration" for :func:`power_series` in place of 1/(λ_i - λ_j).
        iterations: of the power iteration.

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
        """W, and eigenvectors and eigenvalues. A covariance that is not finite gives NaN."""
        # LAPACK raises at NaN; here it shall come out, so that the first bad number can be found.
        values, vectors = eigenvectors(covariance.nan_to_num(0.0, 0.0, 0.0))
        values = values.clamp_min(0.0) + self.eps
        root = matmul(vectors * values.rsqrt().unsqueeze(-2), vectors.mT)
        return root + (covariance - covariance), (vectors, values)

    def gradient(self, of_root: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
        """dL/dS by the formula at the head of this file."""
        vectors, values = saved
        inner = matmul(matmul(vectors.mT, of_root), vectors)
        return matmul(matmul(vectors, self._divided_differences(values) * inner), vectors.mT)

    def _divided_differences(self, values: Tensor) -> Tensor:
        """The matrix K."""
        row, column = values.unsqueeze(-1), values.unsqueeze(-2)
        if self.backward == "exact":
            return -1.0 / (row * column.sqrt() + column * row.sqrt())
        off = (row.rsqrt() - column.rsqrt()) * power_series(values, self.iterations)
        return off.diagonal_scatter(-0.5 * values.pow(-1.5), dim1=-2, dim2=-1)

    def differentiable(self, covariance: Tensor) -> Tensor:
        """W as the inverse of the square root, whose derivative solves a Lyapunov equation.

        Raises:
            UserError: with ``backward="power_iteration"``, which is no derivative of anything.
        """
        if self.backward != "exact":
            raise UserError(
                "decorrelated batch norm with backward='power_iteration' gives an approximate gradient, which has "
                "no derivative of its own; a penalty of gradients needs backward='exact'"
            )
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        root: Tensor = _SquareRoot.apply(covariance + self.eps * eye, self.eps)
        inverse: Tensor = torch.linalg.inv(root)
        return inverse


def power_series(values: Tensor, terms: int) -> Tensor:
    """1/(λ_i - λ_j) as ``terms`` steps of power iteration see it, (..., d, d), finite where eigenvalues repeat.

    With λ_i ≥ λ_j and q = λ_j/λ_i it is the geometric series (1 + q + ... + q^(terms-1)) / λ_i
    = (1 - q^terms) / (λ_i - λ_j), and its negative the other way round; 0 on the diagonal. It is what comes
    out when power iteration, started at an eigenvector, is differentiated step by step.

    Args:
        values: positive eigenvalues (..., d).
        terms: steps of the iteration. The relative error is q^terms.

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
    for _ in range(terms - 1):  # Horner's scheme
        total = total * ratio + 1.0
    places = torch.arange(values.shape[-1], device=values.device)
    # Equal eigenvalues are ordered by their places.
    first = (row > column) | ((row == column) & (places.unsqueeze(-1) > places))
    sign = first.to(values.dtype) - first.mT.to(values.dtype)
    return sign * total / larger


class NewtonRoot:
    """The inverse root by Newton's iteration, a polynomial of S that needs no eigenvectors.

    With t = tr(S + ε I) and N = (S + ε I)/t,

        P_0 = I,   P_(k+1) = (3 P_k - P_k³ N)/2,   W = P_T / √t.

    It converges for any positive N of trace 1, fastest where the eigenvalues are largest. As printed, rounding
    errors that do not commute with N grow once it has converged. It is computed with Q_k = N P_k beside it,

        B_k = (3 I - P_k Q_k)/2,   P_(k+1) = B_k P_k,   Q_(k+1) = Q_k B_k,   Q_0 = N,

    which are the same polynomials of N and stable (Higham 2008, Functions of Matrices, section 6.3). That takes 3 (T - 1)
    products of matrices, and twice as many for the gradient. On a CPU the eigenvectors of a large matrix cost as much as
    some twenty; there the same polynomial and its derivative are computed from them
    (:mod:`descend.nn.whitening.spectrum`).

    Args:
        iterations: T.
        eps: ε.

    >>> W, _ = NewtonRoot(iterations=20, eps=1e-12).of(torch.diag(torch.tensor([1.0, 4.0])).unsqueeze(0))
    >>> W[0].diagonal()
    tensor([1.0000, 0.5000])
    """

    def __init__(self, iterations: int, eps: float) -> None:
        self.iterations, self.eps = iterations, eps

    def _normed(self, covariance: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        eye = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
        shifted = covariance + self.eps * eye
        trace = shifted.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        return shifted / trace, trace, eye

    def of(self, covariance: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """W, and what the gradient needs: N's eigenvalues and eigenvectors, or Q_k, P_k and B_k of each step."""
        normed, trace, eye = self._normed(covariance)
        if self._by_eigenvectors(covariance):
            # As in SpectralRoot, a covariance that is not finite gives NaN.
            values, vectors = eigenvectors(normed.nan_to_num(0.0, 0.0, 0.0))
            root = matmul(vectors * newton_values(values, self.iterations).unsqueeze(-2), vectors.mT)
            return root * trace.rsqrt() + (covariance - covariance), (trace, root, normed, values, vectors)
        # The first step starts at P_0 = I and needs no product.
        factor = 1.5 * eye - 0.5 * normed
        root, square = factor, normed
        steps = [normed, factor]
        for _ in range(self.iterations - 1):
            square = matmul(square, factor)
            factor = baddbmm(eye, root, square, beta=1.5, alpha=-0.5)
            steps += [square, root, factor]
            root = matmul(factor, root)
        return root * trace.rsqrt(), (trace, root, *steps)

    def gradient(self, of_root: Tensor, saved: tuple[Tensor, ...]) -> Tensor:
        """dL/dS: the iteration's tangent in the direction dL/dP, and the part through the trace."""
        trace, last, normed, *rest = saved
        direction = of_root * trace.rsqrt()
        if self._by_eigenvectors(of_root):
            values, vectors = rest
            inner = matmul(matmul(vectors.mT, direction), vectors)
            inner *= newton_differences(values, self.iterations)
            d_root = matmul(matmul(vectors, inner), vectors.mT)
        else:
            d_root = self._tangent(direction, normed, rest)
        through_scale = -0.5 * (direction * last).sum((-2, -1))
        through_norm = -(d_root * normed).sum((-2, -1))
        found = d_root / trace
        found.diagonal(dim1=-2, dim2=-1).add_(
            (through_scale + through_norm).unsqueeze(-1) / trace.squeeze(-1)
        )
        return 0.5 * (found + found.mT)

    def _by_eigenvectors(self, like: Tensor) -> bool:
        return like.device.type == "cpu" and like.shape[-1] >= LARGE and self.iterations > 3

    def _tangent(self, direction: Tensor, normed: Tensor, steps: list[Tensor]) -> Tensor:
        """The derivative of P_T in a direction, step by step."""
        first, *rest = steps
        d_root = -0.5 * direction
        d_square = baddbmm(matmul(direction, first), normed, d_root)
        for at in range(0, len(rest), 3):
            square, root, factor = rest[at : at + 3]
            d_factor = baddbmm(matmul(d_root, square), root, d_square).mul_(-0.5)
            d_root = baddbmm(matmul(d_factor, root), factor, d_root)
            if at + 3 < len(rest):
                d_square = baddbmm(matmul(d_square, factor), square, d_factor)
        return d_root

    def differentiable(self, covariance: Tensor) -> Tensor:
        """W by the iteration as it is written."""
        normed, trace, eye = self._normed(covariance)
        root, square = eye.expand_as(normed), normed
        for _ in range(self.iterations):
            factor = 1.5 * eye - 0.5 * (root @ square)
            root, square = factor @ root, square @ factor
        return root * trace.rsqrt()


class _SquareRoot(torch.autograd.Function):
    """R = S^(1/2). From R R = S: dR solves R dR + dR R = dS."""

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
    """X with R X + X R = Q, for a positive R and a symmetric Q. Its derivatives are solutions again."""

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
