"""How far along a direction: the step sizes that lower the loss enough.

Along a direction p from x the loss is φ(t) = F(x + t p), with slope φ'(0) = g·p < 0.

=============== ===================================================================================
Armijo          φ(t) ≤ φ(0) + c t φ'(0), the first of t₀, ρ t₀, ρ² t₀, …
strong Wolfe    that, and |φ'(t)| ≤ c₂ |φ'(0)|: the slope is nearly gone, so that sᵀy > 0
=============== ===================================================================================

A φ that is not a number fails either test, so that a step into a place where the loss is not finite is never taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

__all__ = ["Point", "armijo", "strong_wolfe"]


class Point(NamedTuple):
    """A place along the direction: how far, the loss there, the slope there (NaN where it was not asked for)."""

    t: float
    value: float
    slope: float = math.nan


def armijo(
    value_at: Callable[[float], float],
    value: float,
    slope: float,
    *,
    first: float = 1.0,
    c: float = 1e-4,
    rho: float = 0.5,
    least: float = 1e-14,
) -> Point | None:
    """The first of the steps first, ρ first, ρ² first, … with φ(t) ≤ φ(0) + c t φ'(0).

    If φ' is Lipschitz with L, it is ``first`` or more than 2 ρ (1 − c) |φ'(0)|/L (Nocedal and Wright 2006, section 3.1).

    Args:
        value_at: φ.
        value: φ(0).
        slope: φ'(0); nothing is found unless it is below 0.
        first: t₀. Default 1.
        c: the share of the decrease promised by the slope that is asked for. Default 1e-4.
        rho: ρ. Default 0.5.
        least: no t below this is tried. Default 1e-14.

    Returns:
        None where no t passes: rounding hides every decrease.

    >>> armijo(lambda t: (t - 0.3) ** 2, 0.09, -0.6)
    Point(t=0.5, value=0.04000000000000001, slope=nan)
    """
    t = first
    while slope < 0.0 and t >= least:
        found = value_at(t)
        # The difference of the losses, as φ(0) + c t φ'(0) may round to φ(0).
        if value - found >= -c * t * slope:
            return Point(t, found)
        t *= rho
    return None


def strong_wolfe(
    at: Callable[[float], tuple[float, float]],
    value: float,
    slope: float,
    *,
    first: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
    limit: int = 25,
    longest: float = 1e10,
) -> Point | None:
    """A step that satisfies the strong Wolfe conditions, by bracketing and cubic interpolation.

    Nocedal and Wright 2006, algorithms 3.5 and 3.6: t grows until an interval must hold such a step, and the interval
    shrinks to the minimum of the cubic through values and slopes at its ends. Where the limit ends the search, the best step
    that passes Armijo's test is taken.

    Args:
        at: gives φ(t) and φ'(t).
        value: φ(0).
        slope: φ'(0); nothing is found unless it is below 0.
        first: the first t. Default 1.
        c1: of Armijo's test. Default 1e-4.
        c2: of the slope's; 0.9 for quasi-Newton methods, 0.1 for conjugate gradients. Default 0.9.
        limit: on evaluations. Default 25.
        longest: t at most. Default 1e10.

    Returns:
        None where no t passed Armijo's test.

    >>> strong_wolfe(lambda t: ((t - 3.0) ** 2, 2 * (t - 3.0)), 9.0, -6.0, c2=0.1).t
    3.0
    """
    if not slope < 0.0:
        return None
    start = low = Point(0.0, value, slope)
    high: Point | None = None
    best: Point | None = None
    t = first
    for _ in range(limit):
        point = Point(t, *at(t))
        falls = value - point.value >= -c1 * t * slope
        if falls and (best is None or point.value < best.value):
            best = point
        if falls and abs(point.slope) <= -c2 * slope:
            return point
        if high is None:  # still growing
            if not falls or (low is not start and point.value >= low.value):
                high = point
            elif point.slope >= 0.0:
                low, high = point, low
            else:
                low, before = point, low
                if t >= longest:
                    return best
                t = min(_extrapolated(before, low), longest)
                continue
        elif not falls or point.value >= low.value:
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
    """Beyond the last point by two to nine times the last stretch: where the cubic has its minimum."""
    span = last.t - before.t
    found = _cubic(before, last)
    least, most = last.t + 2.0 * span, last.t + 9.0 * span
    return min(max(found, least), most) if math.isfinite(found) else least


def _between(low: Point, high: Point) -> float:
    """The cubic's minimum, kept a tenth of the interval away from its ends; else the middle."""
    left, right = sorted((low.t, high.t))
    margin = 0.1 * (right - left)
    found = _cubic(low, high)
    if not math.isfinite(found):
        return left + (right - left) / 2
    return min(max(found, left + margin), right - margin)


def _cubic(a: Point, b: Point) -> float:
    """Where the cubic through two values and slopes has its minimum; NaN where it has none."""
    if a.t == b.t:
        return math.nan
    d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0.0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.t - a.t)
    below = b.slope - a.slope + 2.0 * d2
    return math.nan if below == 0.0 else b.t - (b.t - a.t) * (b.slope + d2 - d1) / below
