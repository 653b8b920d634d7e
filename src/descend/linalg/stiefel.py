"""The Stiefel manifold of orthonormal frames: tangent projections, Cayley retractions and the polar factor.

A frame X is an n × q matrix, n ≥ q, with XᵀX = I. All functions take one frame, (n, q), or a batch of frames, (b, n, q).

A vector D at X, such as a gradient or a step, has the tangent part Z = D − X (XᵀD + DᵀX)/2, which does not change XᵀX to
first order. With S₀ = XᵀD it is

    Z = N + X S,    N = D − X S₀ ⟂ X,    S = (S₀ − S₀ᵀ)/2,

and equals W X for the skew n × n matrix W = N Xᵀ − X Nᵀ + X S Xᵀ. The Cayley transform of W/2 is orthogonal, so

    X⁺ = (I − W/2)⁻¹ (I + W/2) X

is a frame, and X⁺ = X + Z + O(‖Z‖²). W has rank at most 2q, and the Sherman-Morrison-Woodbury formula leads to a 2q × 2q
system. Since N ⟂ X, half of its unknowns can be eliminated analytically, and with G = NᵀN a q × q system remains:

    X⁺ = X + (Z − X G/2) (I + G/4 − S/2)⁻¹.

The symmetric part of its matrix is at least I, so it is never singular, and the step is exact for every D. No matrix of
size n × n is formed, even for 2q > n.

Li, Fuxin and Todorovic 2020 solve X⁺ = X + W (X + X⁺)/2 by s fixed-point iterations from X + Z, with an error of
O(‖Z‖^(s+2)): :func:`cayley_iterated`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = [
    "Tangent",
    "cayley",
    "cayley_adjoint",
    "cayley_iterated",
    "equally_shaped",
    "frames_of",
    "nearest_frame_",
    "off_frame",
    "polar",
    "polished",
    "put_frames_",
    "tangent",
]

ROUNDING = 1e-6
"""A frame is considered orthonormal if no entry of XᵀX − I exceeds this in absolute value."""
CACHED = 2**17
"""Maximum number of entries of a stack on the CPU."""


class Tangent(NamedTuple):
    """A tangent vector Z = N + X S at a frame X: the tangent part of any vector.

    Args:
        outside: N, (..., n, q), orthogonal to X.
        inside: S, (..., q, q), skew.
    """

    outside: Tensor
    inside: Tensor

    def at(self, frames: Tensor) -> Tensor:
        """Return Z as a matrix, (..., n, q)."""
        return _plus(self.outside, frames, self.inside)

    def length(self) -> Tensor:
        """Return ‖W‖_F of the skew matrix W, (..., 1, 1): √(2 ‖N‖² + ‖S‖²)."""
        square = 2 * self.outside.square().sum((-2, -1), True) + self.inside.square().sum((-2, -1), True)
        return square.sqrt()


def tangent(frames: Tensor, vectors: Tensor) -> Tangent:
    """Project vectors onto the tangent spaces at frames.

    Args:
        frames: X, (n, q) or (b, n, q).
        vectors: D, of the same shape.

    >>> X = torch.eye(3, 2)
    >>> Z = tangent(X, torch.tensor([[5.0, 1.0], [3.0, 7.0], [2.0, 4.0]])).at(X)
    >>> Z
    tensor([[ 0., -1.],
            [ 1.,  0.],
            [ 2.,  4.]])
    """
    product = frames.mT @ vectors
    return Tangent(_plus(vectors, frames, product, -1.0), 0.5 * (product - product.mT))


def cayley(frames: Tensor, step: Tangent, length: float | Tensor = 1.0) -> Tensor:
    """Cayley retraction: compute the frames (I − t W/2)⁻¹ (I + t W/2) X exactly, by one q × q system for each.

    It costs 6 n q² + O(q³) operations for a frame and does not synchronize with the device. In floating-point arithmetic the
    result is as orthonormal as X up to rounding errors, which accumulate over many steps: see :func:`polished`.

    Args:
        frames: X, (n, q) or (b, n, q), with XᵀX = I.
        step: Z = W X, of any norm.
        length: t, one value for all or (b, 1, 1). Default 1.

    >>> X = torch.eye(2, 1)
    >>> half_pi = tangent(X, torch.tensor([[0.0], [2.0]]))  # an angle of 2 arctan(‖Z‖/2)
    >>> cayley(X, half_pi).round(decimals=5).flatten().tolist()
    [0.0, 1.0]
    """
    gram = length * (step.outside.mT @ step.outside)
    system = length * (0.25 * gram - 0.5 * step.inside)
    system.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # Inverting is as accurate here as solving for n right-hand sides, and several times faster in LAPACK.
    inverse, _ = torch.linalg.inv_ex(system)
    # The increment is added to X last, so that a small step keeps its relative precision.
    return _plus(frames, _plus(step.outside, frames, step.inside - 0.5 * gram), length * inverse)


def cayley_adjoint(frames: Tensor, step: Tangent, gradients: Tensor) -> Tensor:
    """Backpropagate through :func:`cayley`: compute the gradient of F(cayley(X, P(D))) with respect to D from ∇F at the result.

    P(D) is the tangent part of D. With the symbols above, X⁺ = X + B A⁻¹ with B = N + X (S − G/2) and A = I + G/4 − S/2. With
    V the gradient at X⁺, the chain rule yields in reverse order

        B̄ = V A⁻ᵀ,    Ā = −(X⁺ − X)ᵀ B̄,    C̄ = Xᵀ B̄,
        N̄ = B̄ + N sym(Ā/2 − C̄),    S̄ = C̄ − Ā/2,
        D̄ = (I − X Xᵀ) N̄ + X (S̄ − S̄ᵀ)/2,    sym(M) = (M + Mᵀ)/2.

    The result is tangent at X; at D = 0 it is the tangent part of V.

    Args:
        frames: X, (n, q) or (b, n, q), with XᵀX = I.
        step: P(D).
        gradients: V, of the same shape as X.

    >>> X, V = torch.eye(3, 2), torch.tensor([[5.0, 1.0], [3.0, 7.0], [2.0, 4.0]])
    >>> torch.equal(cayley_adjoint(X, tangent(X, torch.zeros(3, 2)), V), tangent(X, V).at(X))
    True
    """
    gram = step.outside.mT @ step.outside
    system = 0.25 * gram - 0.5 * step.inside
    system.diagonal(dim1=-2, dim2=-1).add_(1.0)
    inverse, _ = torch.linalg.inv_ex(system)
    moved = _plus(step.outside, frames, step.inside - 0.5 * gram) @ inverse
    of_base = gradients @ inverse.mT
    of_system, inside = -(moved.mT @ of_base), frames.mT @ of_base
    of_gram = 0.5 * of_system - inside
    outside = _plus(of_base, step.outside, 0.5 * (of_gram + of_gram.mT))
    return Tangent(
        _plus(outside, frames, frames.mT @ outside, -1.0),
        -0.5 * (of_gram - of_gram.mT),
    ).at(frames)


def cayley_iterated(frames: Tensor, step: Tangent, iterations: int, length: float | Tensor = 1.0) -> Tensor:
    """Approximate :func:`cayley` by fixed-point iterations (Li, Fuxin and Todorovic 2020).

    Starting from Y = X + t Z, Y ← X + t W (X + Y)/2 is applied ``iterations`` times. The error and the deviation from
    orthonormality are O(t^(iterations + 2)). Steps with t ‖W‖_F > 1 are shortened to 1, as in the paper, so that every
    iteration at least halves the error.

    Args:
        frames: X, (n, q) or (b, n, q), with XᵀX = I.
        step: Z = W X.
        iterations: s, 0 or more.
        length: t, one value for all or (b, 1, 1). Default 1.

    >>> X = torch.eye(2, 1)
    >>> step = tangent(X, torch.tensor([[0.0], [0.1]]))
    >>> f"{float((cayley_iterated(X, step, 2) - cayley(X, step)).norm()):.1e}"
    '1.2e-05'
    """
    length = length / (step.length() * length).abs().clamp_min(1.0)
    result = frames + length * step.at(frames)
    for _ in range(iterations):
        both = frames + result
        inside = frames.mT @ both
        rotated = _plus(step.outside @ inside, frames, step.inside @ inside - step.outside.mT @ both)
        result = frames + 0.5 * length * rotated
    return result


def polished(frames: Tensor, times: int = 1) -> Tensor:
    """Re-orthonormalize nearly orthonormal frames: X ← X (3 I − XᵀX)/2, Newton's iteration for the polar factor.

    An error E = XᵀX − I becomes −3 E²/4 + E³/4, so one iteration deterministically removes the drift of rounding errors. XᵀX is
    computed in float64: with float32, and more so with TF32, the rounding errors of its sums would be corrected as if they
    were errors of X.

    Args:
        frames: X, (n, q) or (b, n, q), with all singular values below √3.
        times: number of iterations. Default 1.

    >>> X = 1.01 * torch.eye(3, 2, dtype=torch.float64)
    >>> [f"{float(off_frame(polished(X, k))):.0e}" for k in range(3)]
    ['2e-02', '3e-04', '7e-08']
    """
    for _ in range(times):
        frames = _plus(frames, frames, _excess(frames).to(frames.dtype), -0.5)
    return frames


def polar(matrices: Tensor) -> Tensor:
    """Compute the frames closest to matrices (n, q) or (b, n, q), n ≥ q: U Vᵀ of the singular value decomposition U Σ Vᵀ.

    The computation is in float64. A rank-deficient matrix has several closest frames, of which one is returned. A matrix that
    is not finite yields NaN and does not affect the other matrices of its batch.

    >>> polar(torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]])
    """
    # LAPACK raises an error for NaN; here NaN is propagated so that the first non-finite number can be located.
    finite = matrices.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    left, _, right = torch.linalg.svd(matrices.double().where(finite, 0.0), full_matrices=False)
    nearest: Tensor = (left @ right).where(finite, torch.nan)
    return nearest.to(matrices.dtype)


def off_frame(frames: Tensor) -> Tensor:
    """Return the largest entry of |XᵀX − I| of each frame, computed in float64: (n, q) → (), (b, n, q) → (b,).

    >>> float(off_frame(torch.eye(3, 2)))
    0.0
    """
    return _excess(frames).abs().amax((-2, -1))


def _plus(base: Tensor, left: Tensor, right: Tensor, factor: float = 1.0) -> Tensor:
    """Compute base + factor · left @ right."""
    if base.dim() == 2:
        return torch.addmm(base, left, right, alpha=factor)
    return torch.baddbmm(base, left, right, alpha=factor)


def _excess(frames: Tensor) -> Tensor:
    """Compute XᵀX − I in float64."""
    wide = frames.double()
    gram = wide.mT @ wide
    gram.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    return gram


def frames_of(weights: Sequence[Tensor]) -> Tensor:
    """Copy weights of equal shape, (rows, ...), into a stack of frames, (b, n, q) with n ≥ q.

    Convolution kernels are flattened to (rows, columns). With at most as many rows as columns, the rows are the orthonormal
    vectors and the frame is the transpose; otherwise the columns are. Types of lower precision are converted to float32,
    since linear systems cannot be solved in them.

    >>> frames_of([torch.zeros(4, 2, 3, 3)] * 5).shape, frames_of([torch.zeros(5, 2)]).shape
    (torch.Size([5, 18, 4]), torch.Size([1, 5, 2]))
    """
    stack = torch.stack(list(weights)).flatten(2)
    stack = stack.to(torch.promote_types(stack.dtype, torch.float32))
    return stack.mT if stack.shape[1] <= stack.shape[2] else stack


def put_frames_(weights: Sequence[Tensor], frames: Tensor) -> None:
    """Copy a stack of frames back into the weights, in place; the inverse of :func:`frames_of`.

    >>> weight = torch.zeros(1, 3)
    >>> put_frames_([weight], torch.tensor([[[1.0], [2.0], [3.0]]]))
    >>> weight
    tensor([[1., 2., 3.]])
    """
    shape = weights[0].shape
    stack = frames.mT if shape[0] == frames.shape[2] else frames
    torch._foreach_copy_([weight.detach() for weight in weights], list(stack.reshape(len(weights), *shape)))


def nearest_frame_(weight: Tensor) -> None:
    """Replace a weight by the closest orthonormal one, in place; a weight that is orthonormal up to rounding is not changed.

    It synchronizes with the device and is meant for the start of training and the end of an epoch.

    >>> weight = torch.tensor([[3.0, 4.0]])
    >>> nearest_frame_(weight); weight
    tensor([[0.6000, 0.8000]])
    """
    frames = frames_of([weight.detach()])
    if not bool(off_frame(frames) <= ROUNDING):
        put_frames_([weight], polar(frames))


def equally_shaped(weights: Sequence[Tensor]) -> list[list[int]]:
    """Group the indices of weights of equal shape, dtype and device, whose frames can be stacked.

    On the CPU a stack of several weights has at most :data:`CACHED` entries, so that it fits into the cache.

    >>> equally_shaped([torch.zeros(2, 3), torch.zeros(4, 4), torch.zeros(2, 3)])
    [[0, 2], [1]]
    """
    groups: dict[object, list[int]] = {}
    for index, weight in enumerate(weights):
        groups.setdefault((weight.shape, weight.dtype, weight.device), []).append(index)
    stacks: list[list[int]] = []
    for indices in groups.values():
        first = weights[indices[0]]
        size = len(indices) if first.device.type != "cpu" else max(1, CACHED // max(1, first.numel()))
        stacks += [indices[start : start + size] for start in range(0, len(indices), size)]
    return stacks
