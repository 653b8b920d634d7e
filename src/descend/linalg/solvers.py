"""Conjugate gradients: minimise a quadratic model with products alone, within a ball or without one."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Ending", "Solution", "conjugate_gradient"]

Ending = Literal["converged", "boundary", "negative curvature", "limit", "not finite"]
"""Why the iteration ended: the residual is small; the ball's surface is reached; the model falls without end along a
direction; the number of iterations is used up; a product or the gradient is not finite, and the iterate before is given."""


@dataclass(frozen=True)
class Solution:
    """What conjugate gradients found.

    Args:
        step: s, (n,).
        decrease: m(0) − m(s) ≥ 0, of the model.
        iterations: products that were computed.
        ending: why no more were.
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
    limit: int | None = None,
) -> Solution:
    """Lower the model m(s) = g·s + s·Hs/2 by conjugate gradients from s = 0 (Hestenes and Stiefel 1952).

    In a ball of finite radius these are the truncated conjugate gradients of Steihaug (1983): the iterates' norms grow, so
    the first that would leave the ball is cut at its surface, and a direction of negative curvature, p·Hp ≤ 0, is
    followed to the surface. The first iterate is the best along −g, Cauchy's point, and the model falls at every
    iteration, so that m(0) − m(s) is at least Cauchy's. Without a ball negative curvature ends with the iterate so far; in
    the first iteration with −g, which points downhill (Nocedal and Wright 2006, algorithm 7.1): its decrease
    is then that of the model at −g.

    Each iteration waits for the device three times: what comes next depends on the numbers.

    Args:
        product: multiplies the symmetric H with a vector, (n,) to (n,).
        gradient: g, (n,).
        radius: of the ball, ‖s‖ ≤ radius. Default infinite.
        tolerance: ends when ‖Hs + g‖ ≤ tolerance ‖g‖. Default 1e-5.
        limit: on iterations. Default n, after which exact arithmetic would have ended.

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
    limit = len(gradient) if limit is None else limit
    for iteration in range(limit + 1):
        if not math.isfinite(square):
            return Solution(step, decrease, iteration, "not finite")
        if square <= small:
            return Solution(step, decrease, iteration, "converged")
        if iteration == limit:
            break
        curved = product(direction)
        curvature = float(torch.dot(direction, curved))
        if not math.isfinite(curvature):
            return Solution(step, decrease, iteration + 1, "not finite")
        downward = curvature <= 0.0
        if downward and math.isinf(radius):
            if iteration == 0:
                step, decrease = direction, square - curvature / 2
            return Solution(step, decrease, iteration + 1, "negative curvature")
        length = math.inf if downward else square / curvature
        if math.isfinite(radius):
            surface = _to_the_surface(step, direction, radius)
            if length >= surface:
                # Along the direction the model falls by its slope, r·r, less its curvature.
                decrease += surface * square - surface**2 * curvature / 2
                ending: Ending = "negative curvature" if downward else "boundary"
                return Solution(step + surface * direction, decrease, iteration + 1, ending)
        step = step + length * direction
        residual = residual - length * curved
        decrease += length * square / 2
        before, square = square, float(torch.dot(residual, residual))
        direction = residual + (square / before) * direction
    return Solution(step, decrease, limit, "limit")


def _to_the_surface(step: Tensor, direction: Tensor, radius: float) -> float:
    """The τ ≥ 0 with ‖s + τ p‖ = radius."""
    a, b = float(torch.dot(direction, direction)), float(torch.dot(step, direction))
    inside = max(radius**2 - float(torch.dot(step, step)), 0.0)
    # Of the two forms of the root the one that subtracts no near numbers: s·p ≥ 0 along conjugate gradients.
    root = math.sqrt(b * b + a * inside)
    return inside / (b + root) if b > 0 else (root - b) / a
