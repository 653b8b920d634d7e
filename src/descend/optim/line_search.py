"""Line search: step sizes along a direction that lower the loss enough.

Along a direction p from x the loss is φ(t) = F(x + t p), with slope φ'(0) = g·p < 0.

=============== ===================================================================================
Armijo          φ(t) ≤ φ(0) + c₁ t φ'(0), the first of t₀, ρ t₀, ρ² t₀, …
strong Wolfe    the same, and |φ'(t)| ≤ c₂ |φ'(0)|: the slope is small, so that sᵀy > 0
=============== ===================================================================================

A point where the loss is not finite fails either condition, and so does every point if φ(0) is not finite: any step would
be a decrease from an infinite loss, and none from NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.vector_step import Position

__all__ = ["LineSearch", "Point", "SearchResult", "armijo", "search_along", "strong_wolfe"]

LineSearch = Literal["none", "armijo", "strong_wolfe"]
"""The condition on the step: none; Armijo's, a sufficient decrease; strong Wolfe, a small slope as well."""


class Point(NamedTuple):
    """A point on the line: the step size t, the loss φ(t), and the slope φ'(t), NaN where it was not computed."""

    t: float
    value: float
    slope: float = math.nan


class SearchResult(NamedTuple):
    """The accepted step size, and the gradient at that point if it was computed."""

    t: float
    gradient: Gradient | None


def search_along(
    objective: Evaluations,
    position: Position,
    step: Tensor,
    gradient: Gradient,
    *,
    line_search: LineSearch,
    initial: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> SearchResult | None:
    """Move the parameters along ``step``; where no step size is accepted, leave them at the start.

    A point where the loss or its slope is not finite is never accepted, and from a start where they are not there is no step.

    Args:
        objective: evaluates the loss.
        position: the start of the step.
        step: the direction, (n,).
        gradient: the gradient at the start.
        line_search: "none", which takes the whole step if it is finite, without waiting for the device; "armijo";
            "strong_wolfe".
        initial: the first step size that is tried. Default 1.
        c1: the constant of the sufficient decrease. Default 1e-4.
        c2: the constant of the curvature condition. Default 0.9.
    """
    if line_search == "none":
        position.move_if_finite(step, initial)
        return SearchResult(initial, None)
    slope = float(torch.dot(step, gradient.vector))
    last = SearchResult(0.0, gradient)

    def value_at(t: float) -> float:
        position.move(step, t)
        return objective.value()

    def value_and_slope_at(t: float) -> tuple[float, float]:
        nonlocal last
        position.move(step, t)
        here = objective.gradient()
        last = SearchResult(t, here)
        slope_here = float(torch.dot(step, here.vector))
        return here.number if math.isfinite(slope_here) else math.nan, slope_here

    if line_search == "armijo":
        shortest = torch.finfo(step.dtype).eps ** 2
        point = armijo(value_at, gradient.number, slope, initial=initial, c1=c1, shortest=shortest)
        if point is not None:
            return SearchResult(point.t, None)
    else:
        point = strong_wolfe(value_and_slope_at, gradient.number, slope, initial=initial, c1=c1, c2=c2)
        if point is not None and point.t == last.t:
            return last
        if point is not None:
            position.move(step, point.t)
            return SearchResult(point.t, objective.gradient())
    position.back()
    return None


def armijo(
    value_at: Callable[[float], float],
    value: float,
    slope: float,
    *,
    initial: float = 1.0,
    c1: float = 1e-4,
    rho: float = 0.5,
    shortest: float = 1e-14,
) -> Point | None:
    """Return the first of the steps t₀, ρ t₀, ρ² t₀, … with φ(t) ≤ φ(0) + c₁ t φ'(0).

    If φ' is Lipschitz with constant L, it is t₀ or more than 2 ρ (1 − c₁) |φ'(0)|/L (Nocedal and Wright 2006,
    section 3.1).

    Args:
        value_at: φ.
        value: φ(0).
        slope: φ'(0); no step is accepted unless it is below 0.
        initial: t₀. Default 1.
        c1: the share of the decrease predicted by the slope that is required. Default 1e-4.
        rho: ρ. Default 0.5.
        shortest: the smallest t that is tried. Default 1e-14.

    Returns:
        None where no t is accepted: rounding hides every decrease, or φ(0) or t₀ is not finite.

    >>> armijo(lambda t: (t - 0.3) ** 2, 0.09, -0.6)
    Point(t=0.5, value=0.04000000000000001, slope=nan)
    """
    t = initial
    while math.isfinite(value) and slope < 0.0 and shortest <= t < math.inf:
        value_t = value_at(t)
        # The difference of the losses is compared, as φ(0) + c₁ t φ'(0) may round to φ(0).
        if math.isfinite(value_t) and value - value_t >= -c1 * t * slope:
            return Point(t, value_t)
        t *= rho
    return None


def strong_wolfe(
    value_and_slope_at: Callable[[float], tuple[float, float]],
    value: float,
    slope: float,
    *,
    initial: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    max_eval: int = 25,
    longest: float = 1e10,
) -> Point | None:
    """Return a step that satisfies the strong Wolfe conditions, by bracketing and cubic interpolation.

    Nocedal and Wright 2006, algorithms 3.5 and 3.6: t grows until an interval must contain such a step, and the
    interval shrinks to the minimum of the cubic through the values and slopes at its ends. Where the limit of
    evaluations ends the search, the best step that satisfies Armijo's condition is taken.

    Args:
        value_and_slope_at: returns φ(t) and φ'(t).
        value: φ(0).
        slope: φ'(0); no step is accepted unless it is below 0.
        initial: the first t. Default 1.
        c1: the constant of Armijo's condition. Default 1e-4.
        c2: the constant of the curvature condition; 0.9 for quasi-Newton methods, 0.1 for conjugate gradients.
            Default 0.9.
        max_eval: the largest number of evaluations. Default 25.
        longest: the largest t. Default 1e10.

    Returns:
        None where no t satisfied Armijo's condition.

    >>> strong_wolfe(lambda t: ((t - 3.0) ** 2, 2 * (t - 3.0)), 9.0, -6.0, c2=0.1).t
    3.0
    """
    if not (math.isfinite(value) and slope < 0.0 and math.isfinite(initial)):
        return None
    start = low = Point(0.0, value, slope)
    high: Point | None = None
    best: Point | None = None
    t = initial
    for _ in range(max_eval):
        point = Point(t, *value_and_slope_at(t))
        decreases = math.isfinite(point.value) and value - point.value >= -c1 * t * slope
        if decreases and (best is None or point.value < best.value):
            best = point
        if decreases and abs(point.slope) <= -c2 * slope:
            return point
        if high is None:  # the interval still grows
            if not decreases or (low is not start and point.value >= low.value):
                high = point
            elif point.slope >= 0.0:
                low, high = point, low
            else:
                low, before = point, low
                if t >= longest:
                    return best
                t = min(_extrapolated(before, low), longest)
                continue
        elif not decreases or point.value >= low.value:
            high = point
        else:
            if point.slope * (high.t - low.t) >= 0.0:
                high = low
            low = point
        if abs(high.t - low.t) <= 1e-14 * max(1.0, abs(low.t)):
            break
        t = _between(low, high)
    return best


def _extrapolated(before: Point, last: Point) -> float:
    """Return the minimum of the cubic, at least two and at most nine times the last interval beyond the last point."""
    span = last.t - before.t
    minimum = _cubic(before, last)
    lower, upper = last.t + 2.0 * span, last.t + 9.0 * span
    return min(max(minimum, lower), upper) if math.isfinite(minimum) else lower


def _between(low: Point, high: Point) -> float:
    """Return the minimum of the cubic, at least a tenth of the interval from its ends; else the midpoint."""
    left, right = sorted((low.t, high.t))
    margin = 0.1 * (right - left)
    minimum = _cubic(low, high)
    if not math.isfinite(minimum):
        return left + (right - left) / 2
    return min(max(minimum, left + margin), right - margin)


def _cubic(a: Point, b: Point) -> float:
    """Return the minimum of the cubic through two values and slopes; NaN where it has none."""
    if a.t == b.t:
        return math.nan
    d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0.0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.t - a.t)
    denominator = b.slope - a.slope + 2.0 * d2
    return math.nan if denominator == 0.0 else b.t - (b.t - a.t) * (b.slope + d2 - d1) / denominator
