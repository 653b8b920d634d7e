"""Orthonormal frames: the Stiefel manifold, its tangent vectors, and steps along it by Cayley's transform.

A frame X is an n × q matrix, n ≥ q, with XᵀX = I. All functions take one, (n, q), or a batch of frames, (b, n, q).

A vector D at X, a gradient or a step, has the tangent part Z = D − X (XᵀD + DᵀX)/2: what is left of D when changes of
XᵀX are taken out. With S₀ = XᵀD it is

    Z = N + X S,    N = D − X S₀ ⟂ X,    S = (S₀ − S₀ᵀ)/2,

and equals W X for the skew n × n matrix W = N Xᵀ − X Nᵀ + X S Xᵀ. Cayley's transform of W/2 is orthogonal, so that

    X⁺ = (I − W/2)⁻¹ (I + W/2) X

is a frame, and X⁺ = X + Z + O(‖Z‖²). W has rank 2q at most: the Sherman-Morrison-Woodbury formula leads to a system of
2q × 2q. As N ⟂ X, half of its unknowns can be eliminated by hand, and with G = NᵀN there remains a system of q × q,

    X⁺ = X + (Z − X G/2) (I + G/4 − S/2)⁻¹.

Its matrix has a symmetric part of at least I, so it is never singular, and the step is exact for every D. Nothing of
size n × n is formed, also for 2q > n.

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
"""Frames whose XᵀX − I has no larger entry are orthonormal as they are."""
CACHED = 2**17
"""Numbers of a stack on the CPU."""


class Tangent(NamedTuple):
    """A tangent vector Z = N + X S at a frame X: the tangent part of any vector.

    Args:
        outside: N, (..., n, q), orthogonal to X.
        inside: S, (..., q, q), skew.
    """

    outside: Tensor
    inside: Tensor

    def at(self, frames: Tensor) -> Tensor:
        """Z as a matrix, (..., n, q)."""
        return _plus(self.outside, frames, self.inside)

    def length(self) -> Tensor:
        """‖W‖_F of its skew matrix W, (..., 1, 1): √(2 ‖N‖² + ‖S‖²)."""
        square = 2 * self.outside.square().sum((-2, -1), True) + self.inside.square().sum((-2, -1), True)
        return square.sqrt()


def tangent(frames: Tensor, vectors: Tensor) -> Tangent:
    """The tangent part of vectors at frames, which is the nearest tangent vector.

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
    """The frames (I − t W/2)⁻¹ (I + t W/2) X, exactly, by one q × q system for each.

    It costs 6 n q² + O(q³) operations a frame, and does not wait for the device. In floating-point numbers the result is
    as orthonormal as X is, up to rounding, which adds up over many steps: see :func:`polished`.

    Args:
        frames: X, (n, q) or (b, n, q), with XᵀX = I.
        step: Z = W X, of any size.
        length: t, one for all or (b, 1, 1). Default 1.

    >>> X = torch.eye(2, 1)
    >>> half_pi = tangent(X, torch.tensor([[0.0], [2.0]]))  # an angle of 2 arctan(‖Z‖/2)
    >>> cayley(X, half_pi).round(decimals=5).flatten().tolist()
    [0.0, 1.0]
    """
    gram = length * (step.outside.mT @ step.outside)
    system = length * (0.25 * gram - 0.5 * step.inside)
    system.diagonal(dim1=-2, dim2=-1).add_(1.0)
    # An inverse in place of a system with n right-hand sides: as accurate here, and LAPACK is several times as fast.
    inverse, _ = torch.linalg.inv_ex(system)
    # The increment is added to X at the end, so that a small step is not lost beside it.
    return _plus(frames, _plus(step.outside, frames, step.inside - 0.5 * gram), length * inverse)


def cayley_adjoint(frames: Tensor, step: Tangent, slopes: Tensor) -> Tensor:
    """The gradient of F(:func:`cayley` (X, P(D))) by D, with P(D) the tangent part: from ∇F where that leads to.

    The derivative of the map, transposed. In the terms above X⁺ = X + B A⁻¹ with B = N + X (S − G/2) and
    A = I + G/4 − S/2, and with V the gradient at X⁺ the chain rule gives, from the end to the start,

        B̄ = V A⁻ᵀ,    Ā = −(X⁺ − X)ᵀ B̄,    C̄ = Xᵀ B̄,
        N̄ = B̄ + N sym(Ā/2 − C̄),    S̄ = C̄ − Ā/2,
        D̄ = (I − X Xᵀ) N̄ + X (S̄ − S̄ᵀ)/2,    sym(M) = (M + Mᵀ)/2.

    It is tangent, as it must be, and at D = 0 the tangent part of V.

    Args:
        frames: X, (n, q) or (b, n, q), with XᵀX = I.
        step: P(D).
        slopes: V, of the shape of X.

    >>> X, V = torch.eye(3, 2), torch.tensor([[5.0, 1.0], [3.0, 7.0], [2.0, 4.0]])
    >>> torch.equal(cayley_adjoint(X, tangent(X, torch.zeros(3, 2)), V), tangent(X, V).at(X))
    True
    """
    gram = step.outside.mT @ step.outside
    system = 0.25 * gram - 0.5 * step.inside
    system.diagonal(dim1=-2, dim2=-1).add_(1.0)
    inverse, _ = torch.linalg.inv_ex(system)
    moved = _plus(step.outside, frames, step.inside - 0.5 * gram) @ inverse
    of_base = slopes @ inverse.mT
    of_system, inside = -(moved.mT @ of_base), frames.mT @ of_base
    of_gram = 0.5 * of_system - inside
    outside = _plus(of_base, step.outside, 0.5 * (of_gram + of_gram.mT))
    return Tangent(
        _plus(outside, frames, frames.mT @ outside, -1.0),
        -0.5 * (of_gram - of_gram.mT),
    ).at(frames)


def cayley_iterated(frames: Tensor, step: Tangent, iterations: int, length: float | Tensor = 1.0) -> Tensor:
    """:func:`cayley` as Li, Fuxin and Todorovic 2020 compute it: by fixed-point iterations, nearly.

    From Y = X + t Z, ``iterations`` times Y ← X + t W (X + Y)/2. The error is O(t^(iterations + 2)), and the result is as
    far from being a frame. Steps of t ‖W‖_F > 1 are shortened to 1, as in the paper, so that an iteration at least halves
    the error.

    Args:
        frames: X, (n, q) or (b, n, q), with XᵀX = I.
        step: Z = W X.
        iterations: s, 0 or more.
        length: t, one for all or (b, 1, 1). Default 1.

    >>> X = torch.eye(2, 1)
    >>> step = tangent(X, torch.tensor([[0.0], [0.1]]))
    >>> f"{float((cayley_iterated(X, step, 2) - cayley(X, step)).norm()):.1e}"
    '1.2e-05'
    """
    length = length / (step.length() * length).abs().clamp_min(1.0)
    found = frames + length * step.at(frames)
    for _ in range(iterations):
        both = frames + found
        inside = frames.mT @ both
        turned = _plus(step.outside @ inside, frames, step.inside @ inside - step.outside.mT @ both)
        found = frames + 0.5 * length * turned
    return found


def polished(frames: Tensor, times: int = 1) -> Tensor:
    """Nearly orthonormal frames made orthonormal: X ← X (3 I − XᵀX)/2, Newton's iteration for the polar factor.

    An error E = XᵀX − I becomes −3 E²/4 + E³/4, so that one step takes the drift of rounding away, and does it the same
    way each time. XᵀX is computed in float64: in float32 the rounding of its sums, and more so of TF32, would be corrected
    as if it were an error of X.

    Args:
        frames: X, (n, q) or (b, n, q), with all singular values below √3.
        times: of the iteration. Default 1.

    >>> X = 1.01 * torch.eye(3, 2, dtype=torch.float64)
    >>> [f"{float(off_frame(polished(X, k))):.0e}" for k in range(3)]
    ['2e-02', '3e-04', '7e-08']
    """
    for _ in range(times):
        frames = _plus(frames, frames, _excess(frames).to(frames.dtype), -0.5)
    return frames


def polar(matrices: Tensor) -> Tensor:
    """The frames nearest to matrices of (n, q) or (b, n, q), n ≥ q: U Vᵀ of the singular value decomposition U Σ Vᵀ.

    It is computed in float64. A matrix of less than full rank has several nearest frames; one of them is taken. A matrix that
    is not finite gives NaN, and the others of its batch their frames.

    >>> polar(torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]]))
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]])
    """
    # LAPACK raises at NaN; here it shall come out, so that the first bad number can be found.
    whole = matrices.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    left, _, right = torch.linalg.svd(matrices.double().where(whole, 0.0), full_matrices=False)
    nearest: Tensor = (left @ right).where(whole, torch.nan)
    return nearest.to(matrices.dtype)


def off_frame(frames: Tensor) -> Tensor:
    """The largest entry of |XᵀX − I|, for each of the frames, computed in float64: (n, q) → (), (b, n, q) → (b,).

    >>> float(off_frame(torch.eye(3, 2)))
    0.0
    """
    return _excess(frames).abs().amax((-2, -1))


def _plus(base: Tensor, left: Tensor, right: Tensor, factor: float = 1.0) -> Tensor:
    """The sum of ``base`` and factor · left @ right."""
    if base.dim() == 2:
        return torch.addmm(base, left, right, alpha=factor)
    return torch.baddbmm(base, left, right, alpha=factor)


def _excess(frames: Tensor) -> Tensor:
    """XᵀX − I in float64."""
    wide = frames.double()
    gram = wide.mT @ wide
    gram.diagonal(dim1=-2, dim2=-1).sub_(1.0)
    return gram


def frames_of(weights: Sequence[Tensor]) -> Tensor:
    """Layers' weights of one shape, (rows, ...), as a stack of frames, (b, n, q) with n ≥ q; a copy.

    Kernels of convolutions are laid flat, (rows, columns). Where there are at most as many rows as columns the rows are
    to be orthonormal, and the frame is the transpose; otherwise the columns are. Types of less than float32 become
    float32, in which linear systems can be solved.

    >>> frames_of([torch.zeros(4, 2, 3, 3)] * 5).shape, frames_of([torch.zeros(5, 2)]).shape
    (torch.Size([5, 18, 4]), torch.Size([1, 5, 2]))
    """
    stack = torch.stack(list(weights)).flatten(2)
    stack = stack.to(torch.promote_types(stack.dtype, torch.float32))
    return stack.mT if stack.shape[1] <= stack.shape[2] else stack


def put_frames_(weights: Sequence[Tensor], frames: Tensor) -> None:
    """Put a stack of frames where their weights are: what :func:`frames_of` took, in place.

    >>> weight = torch.zeros(1, 3)
    >>> put_frames_([weight], torch.tensor([[[1.0], [2.0], [3.0]]]))
    >>> weight
    tensor([[1., 2., 3.]])
    """
    shape = weights[0].shape
    stack = frames.mT if shape[0] == frames.shape[2] else frames
    torch._foreach_copy_([weight.detach() for weight in weights], list(stack.reshape(len(weights), *shape)))


def nearest_frame_(weight: Tensor) -> None:
    """Make a weight the nearest orthonormal one, in place. One that is off by rounding alone keeps its bits.

    It waits for the device, and is meant for the start of a training and the end of an epoch.

    >>> weight = torch.tensor([[3.0, 4.0]])
    >>> nearest_frame_(weight); weight
    tensor([[0.6000, 0.8000]])
    """
    frames = frames_of([weight.detach()])
    if not bool(off_frame(frames) <= ROUNDING):
        put_frames_([weight], polar(frames))


def equally_shaped(weights: Sequence[Tensor]) -> list[list[int]]:
    """The places of weights whose frames are to be stacked: those of one shape, type and device stand together.

    On the CPU a stack holds :data:`CACHED` numbers at most, where there are several weights: what fits its caches is fastest.

    >>> equally_shaped([torch.zeros(2, 3), torch.zeros(4, 4), torch.zeros(2, 3)])
    [[0, 2], [1]]
    """
    alike: dict[object, list[int]] = {}
    for index, weight in enumerate(weights):
        alike.setdefault((weight.shape, weight.dtype, weight.device), []).append(index)
    stacks: list[list[int]] = []
    for places in alike.values():
        first = weights[places[0]]
        size = len(places) if first.device.type != "cpu" else max(1, CACHED // max(1, first.numel()))
        stacks += [places[start : start + size] for start in range(0, len(places), size)]
    return stacks
