"""Ticks of an axis: round values in a range, with labels that differ.

The distance of linear ticks is 1, 2 or 5 times a power of ten. All computations are exact (rational numbers and
decimals), so ticks of years, of times in seconds since 1970 and of differences near 1 are right to the last digit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from descend.report.formatting import NO_BREAK

__all__ = ["LEAST", "Style", "Tick", "linear_ticks", "log_ticks"]

Style = Literal["number", "count", "share"]
"""How labels are written: numbers without separators, since they may be years; counts, which are integers, with
separators; shares as percentages."""

LEAST = 3
"""Number of ticks from which an axis can be read."""

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LONGEST = 8
"""Number of characters from which a label is written with a power of ten, if that is shorter."""


@dataclass(frozen=True)
class Tick:
    """A tick: its value and its label; a line feed in the label begins a new line."""

    value: float
    label: str


def linear_ticks(
    low: float, high: float, most: int, style: Style = "number", least: int = LEAST
) -> list[Tick]:
    """Return the ticks of a linear axis.

    Args:
        low: the lower end of the axis.
        high: the upper end, larger than ``low``.
        most: maximum number of ticks.
        style: how labels are written; counts have ticks at integers only.
        least: if ``most`` would leave fewer ticks than this, the next smaller distance is used.

    Returns:
        All multiples of the distance within the range, in ascending order. There may be fewer than ``least`` if the
        range of a count contains few integers.

    >>> [tick.label for tick in linear_ticks(1986.0, 2023.0, 5)]
    ['1990', '2000', '2010', '2020']
    >>> [tick.label.replace(NO_BREAK, " ") for tick in linear_ticks(0.9881, 0.9899, 5, "share")]
    ['98.85 %', '98.9 %', '98.95 %']
    """
    start, end = _exactly(low), _exactly(high)
    smaller: list[Decimal] = []
    for step in _steps((end - start) / (4 * max(most, 1))):
        if style == "count" and step < 1:
            continue
        size = Fraction(step)
        first, last = math.ceil(start / size), math.floor(end / size)
        if last - first + 1 > 4 * most + 40:
            continue
        values = [number * step for number in range(first, last + 1)]
        if len(values) <= most:
            return _labeled(smaller if len(values) < least and smaller else values, style)
        smaller = values
    raise AssertionError("the distances grow without a bound")


def _exactly(value: float) -> Fraction:
    """The decimal number that a float is written as, so that 0.001 is a thousandth."""
    return Fraction(repr(float(value)))


def _steps(start: Fraction) -> Iterator[Decimal]:
    """Yield 1, 2 and 5 times each power of ten, from about ``start`` on."""
    # The numbers of binary digits give the decimal exponent to within 1, also where a float would be 0 or infinite.
    bits = start.numerator.bit_length() - start.denominator.bit_length()
    exponent = math.floor(bits * math.log10(2)) - 1
    while True:
        for digit in (1, 2, 5):
            yield Decimal((0, (digit,), exponent))
        exponent += 1


def log_ticks(low: float, high: float, most: int, style: Style = "number", least: int = LEAST) -> list[Tick]:
    """Return the ticks of a logarithmic axis: powers of ten, or 1, 2 and 5 times these over few decades.

    Args:
        low: the lower end of the axis, positive.
        high: the upper end, larger than ``low``.
        most: maximum number of ticks.
        style: how labels are written.
        least: if ``most`` would leave fewer ticks than this, more digits are used: 1, 2 and 5, then linear ticks.

    >>> [tick.label for tick in log_ticks(0.0005, 20.0, 6)]
    ['0.001', '0.01', '0.1', '1', '10']
    >>> [tick.label for tick in log_ticks(0.03, 1.2, 6)]
    ['0.05', '0.1', '0.2', '0.5', '1']
    """
    bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
    choices = [[Decimal((0, (1,), power)) for power in range(bottom, top + 1) if power % every == 0]
               for every in (60, 30, 20, 10, 5, 3, 2, 1)]  # fmt: skip
    choices.append([Decimal((0, (digit,), power)) for power in range(bottom, top + 1) for digit in (1, 2, 5)])
    best: list[Decimal] = []
    for choice in choices:
        within = [value for value in choice if _exactly(low) <= Fraction(value) <= _exactly(high)]
        if len(within) > most and len(best) >= least:
            break
        best = within if len(within) <= max(most, 2 * least) else best
    return _labeled(best, style) if len(best) >= least else linear_ticks(low, high, most, style, least)


def _labeled(values: Sequence[Decimal], style: Style) -> list[Tick]:
    if style == "share":
        labels = [_plain(value.scaleb(2)) + NO_BREAK + "%" for value in values]
    elif style == "count":
        labels = [f"{int(value):,}" for value in values]
    else:
        labels = [_plain(value) for value in values]
        if any(len(label) >= _LONGEST for label in labels):
            powers = [_power(value) for value in values]
            labels = powers if max(map(len, powers)) < max(map(len, labels)) else labels
    return [Tick(float(value), label) for value, label in zip(values, labels, strict=True)]


def _plain(value: Decimal) -> str:
    written = f"{value:f}"
    return (written.rstrip("0").rstrip(".") if "." in written else written).replace("-", "−")


def _power(value: Decimal) -> str:
    """Write a number with a power of ten, such as 2×10⁻⁵."""
    if not value:
        return "0"
    exponent = value.adjusted()
    mantissa = _plain(value.scaleb(-exponent))
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return {"1": power, "−1": "−" + power}.get(mantissa, f"{mantissa}×{power}")
