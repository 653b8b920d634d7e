import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from descend.experiments.comparison.learning_rates import log_uniform, van_der_corput


@given(seed=st.integers(-(2**40), 2**40), k=st.integers(0, 7), block=st.integers(0, 20))
def test_every_aligned_block_of_2_to_the_k_points_is_stratified(seed, k, block):
    points = [van_der_corput(seed, index) for index in range(block << k, (block + 1) << k)]
    assert sorted(int(point * 2**k) for point in points) == list(range(2**k))


def test_without_scrambling_it_equals_scipys_sequence(monkeypatch):
    monkeypatch.setattr("descend.experiments.comparison.learning_rates.key", lambda *_: 0)
    expected = qmc.Halton(1, scramble=False).random(100)[:, 0]  # base 2
    assert [van_der_corput(0, index) for index in range(100)] == pytest.approx(expected.tolist(), abs=0)


def test_seeds_give_different_points():
    assert len({van_der_corput(seed, 0) for seed in range(50)}) == 50


@given(count=st.integers(1, 20), seed=st.integers(0, 1000))
def test_learning_rates_are_ascending_and_within_bounds(count, seed):
    rates = log_uniform(count, 1e-4, 1.0, seed)
    assert len(set(rates)) == count
    assert rates == sorted(rates)
    assert 1e-4 <= rates[0] <= rates[-1] <= 1.0


def test_decades_have_equal_shares():
    rates = log_uniform(8, 1e-4, 1.0, 5)
    assert [math.floor(math.log10(rate)) for rate in rates] == [-4, -4, -3, -3, -2, -2, -1, -1]
