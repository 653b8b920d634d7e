"""Means, ratios and proportions with 95 % confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import stdtrit

from descend.rng import key

__all__ = ["Estimate", "exact", "format_number", "mean", "proportion", "ratio", "repetitions"]

_LEVEL = 0.975


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % confidence interval; ``low`` and ``high`` are None where it has no uncertainty.

    >>> str(Estimate(0.5, 0.25, 0.75)), str(Estimate(1234.0))
    ('0.5 (0.25 to 0.75)', '1,234')
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return format_number(self.value)
        return f"{format_number(self.value)} ({format_number(self.low)} to {format_number(self.high)})"


def format_number(value: float) -> str:
    """Return a number with three digits for running text, with a power of ten if it is very small or very large.

    >>> format_number(0.12345), format_number(1234.5), format_number(1.2e-16), format_number(-3e9), format_number(0.0)
    ('0.123', '1,234', '1.2·10⁻¹⁶', '-3.0·10⁹', '0')
    """
    if not math.isfinite(value):
        return "unbounded"
    if value and not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        return f"{mantissa}·10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    digits = 0 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{digits}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"


def repetitions(seed: int, count: int) -> list[int]:
    """Return seeds for ``count`` independent repetitions; those of two seeds have none in common.

    >>> len({*repetitions(0, 5), *repetitions(1, 5)})
    10
    """
    return [key(seed, "gallery/repetition", step=number) for number in range(count)]


def exact(value: float) -> Estimate:
    """Return an estimate without an interval, for a number that does not depend on the seed."""
    return Estimate(float(value))


def mean(values: Iterable[float]) -> Estimate:
    """Return the mean over independent repetitions with Student's interval, x̄ ± t s/√n.

    The mean of one repetition has no interval.

    >>> estimate = mean([1.0, 2.0, 3.0])
    >>> estimate.value, round(estimate.low, 3), round(estimate.high, 3)
    (2.0, -0.484, 4.484)
    """
    numbers = [float(value) for value in values]
    count = len(numbers)
    center = math.fsum(numbers) / count
    if count == 1:
        return Estimate(center)
    deviation = math.sqrt(math.fsum((value - center) ** 2 for value in numbers) / (count - 1))
    half_width = float(stdtrit(count - 1, _LEVEL)) * deviation / math.sqrt(count)
    return Estimate(center, center - half_width, center + half_width)


def ratio(values: Iterable[float]) -> Estimate:
    """Return the geometric mean of ratios, with the interval of :func:`mean` of their logarithms.

    >>> estimate = ratio([1.0, 4.0])
    >>> round(estimate.value, 6), estimate.low < 1 < estimate.high
    (2.0, True)
    """
    logarithms = mean(math.log(value) for value in values)
    ends = (
        (None, None)
        if logarithms.low is None or logarithms.high is None
        else (math.exp(logarithms.low), math.exp(logarithms.high))
    )
    return Estimate(math.exp(logarithms.value), *ends)


def proportion(successes: int, trials: int) -> Estimate:
    """Return the proportion of successes in independent trials with Wilson's interval, which stays within [0, 1].

    >>> estimate = proportion(5, 10)
    >>> estimate.value, round(estimate.low, 3), round(estimate.high, 3)
    (0.5, 0.237, 0.763)

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = 1.959963984540054
    p = successes / trials
    center = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half_width = z / (1 + z * z / trials) * math.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials))
    return Estimate(p, max(0.0, center - half_width), min(1.0, center + half_width))
