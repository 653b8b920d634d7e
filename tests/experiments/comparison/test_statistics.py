"""Intervals and tests against SciPy, closed forms, and simulated rejection rates."""

import itertools
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from descend.experiments.comparison.statistics import holm, interval, paired_test, sign_flips

scores = st.lists(st.floats(0, 1), min_size=2, max_size=8)


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999])
@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_intervals_equal_scipys(n, level):
    values = np.random.default_rng(n).normal(0.9, 0.02, n)
    expected = stats.t.interval(level, n - 1, values.mean(), stats.sem(values))
    assert interval(values.tolist(), level) == pytest.approx(expected, rel=1e-12)


def test_intervals_have_the_nominal_coverage():
    random = np.random.default_rng(0)
    hits = [low <= 1 <= high for low, high in (interval(row, 0.9) for row in random.normal(1, 3, (4000, 5)))]
    assert np.mean(hits) == pytest.approx(0.9, abs=0.015)  # three standard deviations


def test_one_value_has_no_interval():
    assert interval([0.5]) is None


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_paired_t_test_equals_scipys(n):
    random = np.random.default_rng(n)
    first, second = random.normal(0, 1, n), random.normal(0.5, 1, n)
    assert paired_test(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue, rel=1e-10)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_sign_flips_equal_scipys_permutation_test(n):
    random = np.random.default_rng(n)
    first, second = random.normal(0, 1, n), random.normal(0.5, 1, n)
    expected = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
    ).pvalue
    assert sign_flips(first, second) == pytest.approx(expected, rel=1e-12)


def test_sign_flips_by_hand():
    # Of the eight sums of ±0.2 ±0.1 ±0.15 two are at least 0.45 from zero.
    sums = [abs(sum(signs)) for signs in itertools.product([0.2, -0.2], [0.1, -0.1], [0.15, -0.15])]
    assert sign_flips([0.9, 0.8, 0.85], [0.7] * 3) == sum(one >= 0.45 - 1e-9 for one in sums) / 8 == 0.25


def test_many_pairs_are_sampled():
    random = np.random.default_rng(0)
    first, second = random.normal(0.4, 1, 40), random.normal(0, 1, 40)
    assert sign_flips(first, second) == pytest.approx(stats.ttest_rel(first, second).pvalue, abs=0.02)


def test_equal_differences_fall_back_to_sign_flips():
    assert paired_test([0.9, 0.9, 0.9], [0.8, 0.8, 0.8]) == 0.25
    assert paired_test([0.9, 0.8], [0.9, 0.8]) == 1.0


def test_one_pair_is_not_enough():
    assert paired_test([1.0], [0.0]) is None
    assert sign_flips([1.0], [0.0]) is None


@pytest.mark.parametrize("test", [paired_test, sign_flips])
@given(values=scores, seed=st.integers(0, 100))
def test_the_order_of_variants_does_not_matter(test, values, seed):
    other = np.random.default_rng(seed).random(len(values)).tolist()
    p = test(values, other)
    assert p == pytest.approx(test(other, values), abs=1e-12)
    assert 0 <= p <= 1


@pytest.mark.parametrize(("n", "alpha"), [(3, 0.05), (5, 0.05), (5, 0.2)])
def test_equal_variants_are_rejected_at_the_nominal_rate(n, alpha):
    """Both variants have the same distribution and share a part of the noise, as runs of equal seed do."""
    random = np.random.default_rng(n)
    shared = random.normal(0.9, 0.01, (4000, n))
    first, second = (shared + random.normal(0, 0.02, shared.shape) for _ in range(2))
    rejected = np.mean([paired_test(a, b) <= alpha for a, b in zip(first, second, strict=True)])
    assert rejected == pytest.approx(alpha, abs=4 * np.sqrt(alpha * (1 - alpha) / 4000))


def test_sign_flips_do_not_exceed_the_nominal_rate():
    random = np.random.default_rng(1)
    off = random.exponential(1, (1500, 6)) - random.exponential(1, (1500, 6))
    rejected = np.mean([sign_flips(row, np.zeros(6)) <= 0.05 for row in off])
    assert rejected == pytest.approx(2 / 64, abs=0.015)


class TestHolm:
    def test_by_hand(self):
        # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotonic
        assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_of_values_in_order(self):
        # 6 · 0.001, 5 · 0.01, 4 · 0.02, 3 · 0.03, 2 · 0.2, 1 · 0.5: what multipletests(..., method="holm") does
        adjusted = holm([0.001, 0.01, 0.02, 0.03, 0.2, 0.5])
        assert adjusted == pytest.approx([0.006, 0.05, 0.08, 0.09, 0.4, 0.5])

    def test_missing_p_values_do_not_count(self):
        assert holm([None, 0.02, None, 0.03]) == pytest.approx([None, 0.04, None, 0.04])
        assert holm([]) == []

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=10))
    def test_lies_between_the_p_value_and_bonferronis(self, values):
        for p, adjusted in zip(values, holm(values), strict=True):
            assert p <= adjusted <= min(1.0, len(values) * p)

    def test_controls_the_family_wise_error_rate(self):
        random = np.random.default_rng(2)
        p = [[2 * NormalDist().cdf(-abs(z)) for z in row] for row in random.normal(0, 1, (3000, 6))]
        adjusted: list[list[Any]] = [holm(row) for row in p]
        assert np.mean([min(row) <= 0.05 for row in adjusted]) == pytest.approx(
            1 - (1 - 0.05 / 6) ** 6, abs=0.012
        )
