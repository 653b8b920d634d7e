"""Conjugate gradients: minimize a quadratic model from matrix-vector products, optionally within a trust region."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Ending", "Solution", "conjugate_gradient"]

Ending = Literal["converged", "boundary", "negative curvature", "limit", "not finite"]
"""Why the iteration ended: the residual is small; the boundary of the ball is reached; the model is unbounded below along a
direction; the iteration limit is reached; a product or the gradient is not finite, and the last finite iterate is returned."""


@dataclass(frozen=True)
class Solution:
    """Result of :func:`conjugate_gradient`.

    Args:
        step: s, (n,).
        decrease: decrease of the model, m(0) − m(s) ≥ 0.
        iterations: number of products that were computed.
        ending: why the iteration ended.
    """

    step: Tensor
    decrease: float
    iterations: int
    ending: Ending


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    gradient: Tensor,
    *,
    radius: float = math.inf,
    tolerance: float = 1e-5,
    max_iter: int | None = None,
) -> Solution:
    """Minimize the model m(s) = g·s + s·Hs/2 by conjugate gradients from s = 0 (Hestenes and Stiefel 1952).

    With a finite radius this is the truncated conjugate gradient method of Steihaug (1983): the norms of the iterates grow,
    so the first iterate that would leave the ball is truncated at the boundary, and a direction of negative curvature,
    p·Hp ≤ 0, is followed to the boundary. The first iterate is the Cauchy point, the minimizer along −g, and the model
    decreases at every iteration, so m(0) − m(s) is at least the Cauchy decrease. With an infinite radius, negative curvature
    ends the iteration with the current iterate; in the first iteration this is −g, a descent direction (Nocedal and Wright
    2006, algorithm 7.1), and ``decrease`` is that of the model at −g.

    Each iteration synchronizes with the device three times, since the control flow depends on computed numbers.

    Args:
        product: function that multiplies the symmetric H with a vector, (n,) to (n,).
        gradient: g, (n,).
        radius: radius of the ball, ‖s‖ ≤ radius. Default infinite.
        tolerance: relative tolerance; the iteration ends when ‖Hs + g‖ ≤ tolerance ‖g‖. Default 1e-5.
        max_iter: maximum number of iterations. Default n, which is enough in exact arithmetic.

    >>> matrix = torch.tensor([[2.0, 0.0], [0.0, 4.0]])
    >>> solution = conjugate_gradient(lambda v: matrix @ v, torch.tensor([-2.0, 4.0]))
    >>> [round(each, 4) for each in solution.step.tolist()], solution.ending
    ([1.0, -1.0], 'converged')
    >>> conjugate_gradient(lambda v: -v, torch.tensor([3.0, 0.0]), radius=2.0).step.tolist()
    [-2.0, 0.0]
    """
    step, residual = torch.zeros_like(gradient), -gradient
    direction, decrease = residual, 0.0
    square = float(torch.dot(residual, residual))
    small = tolerance**2 * square
    max_iter = len(gradient) if max_iter is None else max_iter
    for iteration in range(max_iter + 1):
        if not math.isfinite(square):
            return Solution(step, decrease, iteration, "not finite")
        if square <= small:
            return Solution(step, decrease, iteration, "converged")
        if iteration == max_iter:
            break
        curved = product(direction)
        curvature = float(torch.dot(direction, curved))
        if not math.isfinite(curvature):
            return Solution(step, decrease, iteration + 1, "not finite")
        negative = curvature <= 0.0
        if negative and math.isinf(radius):
            if iteration == 0:
                step, decrease = direction, square - curvature / 2
            return Solution(step, decrease, iteration + 1, "negative curvature")
        length = math.inf if negative else square / curvature
        if math.isfinite(radius):
            longest = _distance_to_boundary(step, direction, radius)
            if length >= longest:
                # Along p the model changes by −τ r·r + τ² p·Hp/2.
                decrease += longest * square - longest**2 * curvature / 2
                ending: Ending = "negative curvature" if negative else "boundary"
                return Solution(step + longest * direction, decrease, iteration + 1, ending)
        step = step + length * direction
        residual = residual - length * curved
        decrease += length * square / 2
        previous, square = square, float(torch.dot(residual, residual))
        direction = residual + (square / previous) * direction
    return Solution(step, decrease, max_iter, "limit")


def _distance_to_boundary(step: Tensor, direction: Tensor, radius: float) -> float:
    """Return the τ ≥ 0 with ‖s + τ p‖ = radius."""
    a, b = float(torch.dot(direction, direction)), float(torch.dot(step, direction))
    inside = max(radius**2 - float(torch.dot(step, step)), 0.0)
    # Use the form of the root without cancellation: s·p ≥ 0 along conjugate gradients.
    root = math.sqrt(b * b + a * inside)
    return inside / (b + root) if b > 0 else (root - b) / a
