"""Keys are a pure function and uniformly distributed; generators leave the global state unchanged."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from descend.rng import forked, generator, key, seeder

STREAMS = ("order", "init", "dropout", "split", "step")
SEEDS = st.integers(-(2**63), 2**64 - 1)
COUNTS = st.integers(0, 2**40)
ARGUMENTS = st.tuples(SEEDS, st.sampled_from(STREAMS), COUNTS, COUNTS)


class TestKey:
    @settings(deadline=None)
    @given(ARGUMENTS)
    def test_is_pure_regardless_of_other_random_numbers(self, arguments):
        first = key(*arguments)
        torch.rand(1)
        np.random.default_rng().random()
        assert key(*arguments) == first
        assert 0 <= first < 2**63

    def test_is_the_same_in_every_process_and_version(self):
        # A run saved by one version, in a process with its own hash seed, is resumed by another.
        assert key(0, "order") == 8116240972795027986
        assert key(-7, "init", 3, 41) == 5505308076808207999

    @settings(deadline=None)
    @given(ARGUMENTS, ARGUMENTS)
    def test_differs_where_any_argument_differs(self, one, other):
        same = one[1:] == other[1:] and (one[0] - other[0]) % 2**64 == 0
        assert (key(*one) == key(*other)) == same

    def test_has_no_collisions_on_the_grid_a_training_uses(self):
        grid = list(itertools.product(range(4), STREAMS, range(20), range(40)))
        assert len({key(*point) for point in grid}) == len(grid)

    def test_epoch_and_step_are_not_interchangeable(self):
        assert key(0, "order", 1, 0) != key(0, "order", 0, 1)
        assert key(1, "order", 0, 0) != key(0, "order", 1, 0)

    @pytest.mark.parametrize("seed", [2**63, 2**64 - 1, -(2**63), -1, 2**70])
    def test_accepts_any_integer_seed(self, seed):
        assert 0 <= key(seed, "order") < 2**63


def p_value(values: np.ndarray, bins: int) -> float:
    """Return the p-value of the chi-square test that values in 0...bins-1 are uniform."""
    counts = np.bincount(values, minlength=bins)
    return float(scipy.stats.chisquare(counts).pvalue)


class TestUniformity:
    """Chi-square tests at a significance level of one in a million, which a wrong construction fails by far."""

    KEYS = np.array(
        [key(seed, "order", epoch, step) for seed in range(4) for epoch in range(16) for step in range(200)],
        dtype=np.uint64,
    )

    @pytest.mark.parametrize("shift", [0, 8, 28, 55])
    def test_every_byte(self, shift):
        values = ((self.KEYS >> np.uint64(shift)) & np.uint64(255)).astype(int)
        assert 1e-6 < p_value(values, 256) < 1 - 1e-6

    def test_neighbors_are_independent(self):
        differ = (self.KEYS[1:] ^ self.KEYS[:-1]).view(np.uint8).reshape(-1, 8)
        flips = np.unpackbits(differ, axis=1).sum(axis=1)  # Binomial(63, 1/2) each
        z = (flips.mean() - 31.5) / np.sqrt(63 / 4 / len(flips))
        assert abs(z) < 5
        pairs = (self.KEYS[1:] >> np.uint64(59)) * np.uint64(16) + (self.KEYS[:-1] >> np.uint64(59))
        assert p_value(pairs.astype(int), 256) > 1e-6

    def test_a_sum_of_the_arguments_would_fail(self):
        naive = np.array([1000 * epoch + step for epoch in range(64) for step in range(200)])
        assert p_value((naive >> 8) & 255, 256) < 1e-6


class TestGenerator:
    @settings(deadline=None)
    @given(ARGUMENTS)
    def test_equal_arguments_equal_numbers(self, arguments):
        one, other = (torch.rand(4, generator=generator(*arguments)) for _ in range(2))
        assert torch.equal(one, other)

    def test_streams_are_uncorrelated(self):
        samples = torch.stack([torch.randn(4000, generator=generator(0, stream)) for stream in STREAMS])
        correlations = torch.corrcoef(samples) - torch.eye(len(STREAMS))
        assert correlations.abs().max() < 5 / 4000**0.5

    def test_does_not_touch_the_global_state(self):
        before = torch.get_rng_state()
        torch.rand(3, generator=generator(0, "order"))
        assert torch.equal(torch.get_rng_state(), before)


class TestSeeder:
    def test_seeds_the_generator_that_layers_use(self):
        with forked():
            seeder(torch.device("cpu"))(key(3, "step"))
            one = torch.nn.functional.dropout(torch.ones(64))
            torch.manual_seed(key(3, "step"))
            other = torch.nn.functional.dropout(torch.ones(64))
        assert torch.equal(one, other)
        assert 0 < int((one == 0).sum()) < 64


class TestForked:
    def test_restores_the_state(self):
        before = torch.get_rng_state()
        with forked():
            torch.manual_seed(1)
            torch.rand(5)
        assert torch.equal(torch.get_rng_state(), before)

    def test_restores_it_after_a_failure(self):
        before = torch.get_rng_state()
        with pytest.raises(KeyError), forked(torch.device("cpu")):
            torch.rand(5)
            raise KeyError
        assert torch.equal(torch.get_rng_state(), before)

    def test_starts_from_the_state_outside(self):
        with forked():
            inside = torch.rand(3)
        assert torch.equal(inside, torch.rand(3))

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    def test_restores_the_devices_state(self):
        device = torch.device("cuda", 0)
        before = torch.cuda.get_rng_state(device)
        with forked(device):
            torch.rand(5, device=device)
        assert torch.equal(torch.cuda.get_rng_state(device), before)
