"""Ticks: round, distinct, ascending, within the range, and covering it."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from descend.report.formatting import NO_BREAK
from descend.report.ticks import Style, Tick, linear_ticks, log_ticks

ENDS = st.floats(-1e15, 1e15) | st.floats(-1e300, 1e300) | st.floats(-3, 3)


def number(label: str) -> Fraction:
    """The number that a label shows."""
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    plain = label.replace(NO_BREAK, "").replace(",", "").replace("−", "-")
    percent = plain.endswith("%")
    plain = plain.removesuffix("%")
    if any(letter in plain for letter in "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"):
        mantissa, _, power = (
            plain.rpartition("×")
            if "×" in plain
            else ("-1" if plain[0] == "-" else "1", "", plain.lstrip("-"))
        )
        plain = f"{mantissa}e{power.removeprefix('10').translate(powers)}"
    return Fraction(Decimal(plain)) / (100 if percent else 1)


def assert_ticks(ticks: list[Tick], low: float, high: float) -> None:
    """The ticks ascend within the range, and their labels are distinct and show exactly their values."""
    values = [tick.value for tick in ticks]
    assert all(one < other for one, other in pairwise(values))
    assert all(low <= value <= high for value in values)
    labels = [tick.label for tick in ticks]
    assert len(set(labels)) == len(labels)
    assert all(float(number(tick.label)) == tick.value for tick in ticks)


@given(ENDS, ENDS, st.integers(4, 12), st.sampled_from(["number", "share"]))
def test_linear_ticks(one: float, other: float, most: int, style: Style) -> None:
    low, high = sorted((one, other))
    assume(high - low > 1e-11 * max(abs(low), abs(high)))
    ticks = linear_ticks(low, high, most, style)
    assert_ticks(ticks, low, high)
    assert 3 <= len(ticks) <= max(most, 8)
    steps = {Fraction(number(b.label)) - number(a.label) for a, b in pairwise(ticks)}
    assert len(steps) == 1  # equal distances, exactly
    step = steps.pop()
    digits = Decimal(step.numerator) / Decimal(step.denominator)
    assert digits.normalize().as_tuple().digits in ((1,), (2,), (5,))
    assert number(ticks[0].label) - Fraction(repr(low)) < step  # no tick is missing at the ends
    assert Fraction(repr(high)) - number(ticks[-1].label) < step


@given(st.floats(-1e6, 1e6), st.floats(0.3, 1e7), st.integers(4, 12))
def test_ticks_of_counts_are_the_integers_with_separators(low: float, length: float, most: int) -> None:
    ticks = linear_ticks(low, low + length, most, "count")
    assert_ticks(ticks, low, low + length)
    assert all(tick.value.is_integer() and tick.label == f"{int(tick.value):,}" for tick in ticks)
    inside = math.floor(low + length) - math.ceil(low) + 1
    assert len(ticks) == inside if inside <= 4 else len(ticks) >= 3


@given(st.floats(-300, 300), st.floats(1e-3, 300), st.integers(4, 9))
def test_log_ticks(power: float, decades: float, most: int) -> None:
    assume(power + decades < 305)
    low, high = 10.0**power, 10.0 ** (power + decades)
    ticks = log_ticks(low, high, most)
    assert_ticks(ticks, low, high)
    assert 3 <= len(ticks) <= max(most, 8)
    if decades >= 3:
        assert all(
            number(tick.label) == Fraction(10) ** round(math.log10(tick.value)) or decades < 5
            for tick in ticks
        )


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1986.0, 2023.0, ["1990", "1995", "2000", "2005", "2010", "2015", "2020"]),
        (0.0, 1.0, ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        (-1.0, 1.0, ["−1", "−0.5", "0", "0.5", "1"]),
        (1.7e9, 1.7e9 + 20, ["1700000000", "1700000005", "1700000010", "1700000015", "1700000020"]),
        (0.0, 3e9, ["0", "5×10⁸", "10⁹", "1.5×10⁹", "2×10⁹", "2.5×10⁹", "3×10⁹"]),
        (0.0, 2e-6, ["0", "5×10⁻⁷", "10⁻⁶", "1.5×10⁻⁶", "2×10⁻⁶"]),
    ],
)
def test_labels(low: float, high: float, labels: list[str]) -> None:
    assert [tick.label for tick in linear_ticks(low, high, 7)] == labels


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (1e-6, 1.0, ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "10⁰"]),
        (1e-3, 1.0, ["0.001", "0.01", "0.1", "1"]),
        (2.0, 90.0, ["2", "5", "10", "20", "50"]),
        (0.011, 0.029, ["0.015", "0.02", "0.025"]),
    ],
)
def test_labels_of_logarithmic_axes(low: float, high: float, labels: list[str]) -> None:
    assert [tick.label for tick in log_ticks(low, high, 7)] == labels
