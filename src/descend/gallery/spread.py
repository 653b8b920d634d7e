"""How far a number is to be trusted: means and shares with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from scipy.special import stdtrit

from descend.rng import key

__all__ = ["Estimate", "exact", "mean", "ratio", "repetitions", "share", "words"]

_LEVEL = 0.975


@dataclass(frozen=True)
class Estimate:
    """A number with the ends of its 95 % interval; without them where it has no spread.

    >>> str(Estimate(0.5, 0.25, 0.75)), str(Estimate(1234.0))
    ('0.5 (0.25 to 0.75)', '1,234')
    """

    value: float
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return words(self.value)
        return f"{words(self.value)} ({words(self.low)} to {words(self.high)})"


def words(value: float) -> str:
    """A number to three digits as a sentence holds it, very small and very large ones with a power of ten.

    >>> words(0.12345), words(1234.5), words(1.2e-16), words(-3e9), words(0.0)
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
    """Seeds for so many independent repetitions; those of two seeds have none in common.

    >>> len({*repetitions(0, 5), *repetitions(1, 5)})
    10
    """
    return [key(seed, "gallery/repetition", step=number) for number in range(count)]


def exact(value: float) -> Estimate:
    """A number that another seed would not change."""
    return Estimate(float(value))


def mean(values: Iterable[float]) -> Estimate:
    """The mean over independent repetitions and Student's interval, x̄ ± t s/√n.

    One repetition has no interval.

    >>> found = mean([1.0, 2.0, 3.0])
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (2.0, -0.484, 4.484)
    """
    known = [float(value) for value in values]
    count = len(known)
    middle = math.fsum(known) / count
    if count == 1:
        return Estimate(middle)
    deviation = math.sqrt(math.fsum((value - middle) ** 2 for value in known) / (count - 1))
    reach = float(stdtrit(count - 1, _LEVEL)) * deviation / math.sqrt(count)
    return Estimate(middle, middle - reach, middle + reach)


def ratio(values: Iterable[float]) -> Estimate:
    """The geometric mean of ratios, with the interval of :func:`mean` taken of their logarithms.

    >>> found = ratio([1.0, 4.0])
    >>> round(found.value, 6), found.low < 1 < found.high
    (2.0, True)
    """
    found = mean(math.log(value) for value in values)
    ends = (
        (None, None)
        if found.low is None or found.high is None
        else (math.exp(found.low), math.exp(found.high))
    )
    return Estimate(math.exp(found.value), *ends)


def share(hits: int, of: int) -> Estimate:
    """A share of independent trials with Wilson's interval, which stays within [0, 1].

    >>> found = share(5, 10)
    >>> found.value, round(found.low, 3), round(found.high, 3)
    (0.5, 0.237, 0.763)

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    z = 1.959963984540054
    p = hits / of
    middle = (p + z * z / (2 * of)) / (1 + z * z / of)
    reach = z / (1 + z * z / of) * math.sqrt(p * (1 - p) / of + z * z / (4 * of * of))
    return Estimate(p, max(0.0, middle - reach), min(1.0, middle + reach))
