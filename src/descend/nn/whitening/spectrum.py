"""Newton's iteration for the inverse square root, applied to eigenvalues.

P_T is a polynomial p of N, so P_T = U diag(p(λ)) Uᵀ for N = U diag(λ) Uᵀ, and its derivative in a direction E is
U (K ∘ (Uᵀ E U)) Uᵀ with the divided differences K_ij = p[λ_i, λ_j] of p. With z = λ p² the iteration is, for each
eigenvalue,

    b = (3 - z)/2,   p ← p b,   z ← z b²,   from p = 1, z = λ.

The divided differences follow from Leibniz' rule, (f g)[i, j] = f_i g[i, j] + f[i, j] g_j, without a division by λ_i - λ_j:

    p[i, j] ← p[i, j] b_j - p_i z[i, j]/2,   z[i, j] ← z[i, j] (b_j² - z_i (b_i + b_j)/2),   from 0 and 1.

When z is close to 1 the last factor is close to 0, so that rounding errors decay; in the direct derivative of
p ← (3 p - p³ λ)/2 they grow.

Source: Higham 2008, Functions of Matrices, sections 3.2 and 6.3 and B.16.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["newton_differences", "newton_values"]


def newton_values(values: Tensor, iterations: int) -> Tensor:
    """Return p(λ) of eigenvalues (..., d).

    >>> newton_values(torch.tensor([1.0, 0.25]), 20)
    tensor([1., 2.])
    """
    root, square = torch.ones_like(values), values
    for _ in range(iterations):
        factor = 1.5 - 0.5 * square
        root, square = root * factor, square * factor.square()
    return root


def newton_differences(values: Tensor, iterations: int) -> Tensor:
    """Return the divided differences of p, (..., d, d), with p' on the diagonal.

    >>> newton_differences(torch.tensor([1.0, 0.25]), 20)      # p = 1/sqrt: p'(1) = -1/2, (1 - 2)/(3/4) = -4/3
    tensor([[-0.5000, -1.3333],
            [-1.3333, -4.0000]])
    """
    root, square = torch.ones_like(values), values
    of_square = values.new_ones(*values.shape, values.shape[-1])
    of_root = torch.zeros_like(of_square)
    for _ in range(iterations):
        factor = 1.5 - 0.5 * square
        row, column = factor.unsqueeze(-1), factor.unsqueeze(-2)
        of_root = of_root.mul_(column).addcmul_(root.unsqueeze(-1), of_square, value=-0.5)
        multiplier = (row + column).mul_(square.unsqueeze(-1)).mul_(-0.5).add_(column.square())
        of_square = of_square.mul_(multiplier)
        root, square = root * factor, square * factor.square()
    return of_root
