"""Confidence intervals against SciPy, and numbers in text."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from descend.gallery.intervals import Estimate, exact, format_number, mean, proportion, ratio

values = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=12)


@given(values)
def test_the_mean_has_students_interval(sample):
    estimate = mean(sample)
    error = stats.sem(sample)
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(sample) - 1, loc=sum(sample) / len(sample), scale=error)
        assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-6)
    assert estimate.value == pytest.approx(sum(sample) / len(sample), abs=1e-9)


@given(st.integers(1, 500), st.floats(0, 1))
def test_a_proportion_has_wilsons_interval(trials, fraction):
    successes = round(fraction * trials)
    estimate = proportion(successes, trials)
    low, high = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert (estimate.low, estimate.high) == pytest.approx((low, high), abs=1e-9)


def test_ratios_are_averaged_in_logarithms():
    assert ratio([0.1, 10.0]).value == pytest.approx(1.0)
    assert ratio([2.0]) == Estimate(pytest.approx(2.0), None, None)
    estimate, logs = ratio([1.0, 2.0, 8.0]), mean(map(math.log, [1.0, 2.0, 8.0]))
    assert estimate.low == pytest.approx(math.exp(logs.low))
    assert estimate.high == pytest.approx(math.exp(logs.high))


def test_numbers_in_text():
    assert [format_number(value) for value in (0.0, 0.5, 12.345, 999.6, 1e5, 1e6, -0.02)] == [
        "0", "0.5", "12.3", "1,000", "100,000", "1.0·10⁶", "-0.02",
    ]  # fmt: skip
    assert str(exact(3)) == "3"
