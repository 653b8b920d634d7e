"""Conjugate gradients against SciPy, dense algebra and Steihaug's theorem; Lanczos against dense spectra."""

import itertools
import math

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from descend.linalg import conjugate_gradient, lanczos


def symmetric(eigenvalues, seed=0):
    """A matrix with the given spectrum, and a random vector."""
    draw = torch.Generator().manual_seed(seed)
    size = len(eigenvalues)
    rotation, _ = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64))
    values = torch.tensor(eigenvalues, dtype=torch.float64)
    return rotation @ torch.diag(values) @ rotation.T, torch.randn(size, generator=draw, dtype=torch.float64)


def model(matrix, gradient, step):
    return float(gradient @ step + step @ matrix @ step / 2)


EIGENVALUES = st.lists(st.floats(0.5, 50), min_size=2, max_size=12)
ANY_SIGN = st.lists(st.one_of(st.floats(-20, -0.5), st.floats(0.5, 20)), min_size=2, max_size=12)
SEEDS = st.integers(0, 1000)


class TestUnconstrained:
    @pytest.mark.parametrize("max_iter", [1, 2, 3, 5, 8])
    def test_iterates_are_those_of_scipy(self, max_iter):
        matrix, gradient = symmetric(np.linspace(1, 30, 12).tolist())
        got = conjugate_gradient(lambda v: matrix @ v, gradient, tolerance=0.0, max_iter=max_iter)
        expected, _ = scipy.sparse.linalg.cg(matrix.numpy(), -gradient.numpy(), rtol=0.0, maxiter=max_iter)
        np.testing.assert_allclose(got.step, expected, rtol=1e-9)
        assert (got.iterations, got.ending) == (max_iter, "limit")

    @settings(deadline=None, max_examples=examples(40))
    @given(EIGENVALUES, SEEDS)
    def test_n_iterations_solve_the_system(self, eigenvalues, seed):
        matrix, gradient = symmetric(eigenvalues, seed)
        got = conjugate_gradient(lambda v: matrix @ v, gradient, tolerance=1e-8, max_iter=2 * len(gradient))
        assert got.ending == "converged"
        torch.testing.assert_close(
            got.step, torch.linalg.solve(matrix, -gradient), rtol=1e-5, atol=1e-6 * float(gradient.norm())
        )

    def test_as_many_iterations_as_distinct_eigenvalues(self):
        matrix, gradient = symmetric([1.0, 1.0, 4.0, 4.0, 9.0, 9.0, 9.0])
        assert conjugate_gradient(lambda v: matrix @ v, gradient, tolerance=1e-10).iterations == 3

    @pytest.mark.parametrize("tolerance", [0.5, 1e-2, 1e-6])
    def test_ends_when_the_residual_is_small(self, tolerance):
        matrix, gradient = symmetric(np.geomspace(1, 100, 15).tolist())
        found = conjugate_gradient(lambda v: matrix @ v, gradient, tolerance=tolerance, max_iter=100)
        earlier = conjugate_gradient(
            lambda v: matrix @ v, gradient, tolerance=0.0, max_iter=found.iterations - 1
        )
        goal = tolerance * gradient.norm() * (1 + 1e-9)
        assert (matrix @ found.step + gradient).norm() <= goal
        assert (matrix @ earlier.step + gradient).norm() > goal

    def test_negative_curvature_ends_with_minus_the_gradient_or_the_current_iterate(self):
        gradient = torch.tensor([1.0, 0.0], dtype=torch.float64)
        found = conjugate_gradient(lambda v: -v, gradient)
        assert (found.step.tolist(), found.ending, found.decrease) == ([-1, 0], "negative curvature", 1.5)
        matrix, gradient = symmetric([-1.0, 20.0, 30.0, 40.0], seed=2)
        found = conjugate_gradient(lambda v: matrix @ v, gradient)
        assert found.ending == "negative curvature"
        assert found.iterations > 1
        first = conjugate_gradient(
            lambda v: matrix @ v, gradient, max_iter=found.iterations - 1, tolerance=0.0
        )
        assert torch.equal(found.step, first.step)

    def test_a_zero_gradient(self):
        found = conjugate_gradient(lambda v: v, torch.zeros(3))
        assert (found.step.tolist(), found.iterations, found.ending) == ([0.0] * 3, 0, "converged")

    @pytest.mark.parametrize("radius", [math.inf, 2.0])
    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_what_is_not_finite_ends_it_at_the_previous_iterate(self, bad, radius):
        matrix, gradient = symmetric([1.0, 2.0, 5.0])
        products = []

        def product(vector):
            products.append(vector)
            return matrix @ vector if len(products) < 3 else torch.full_like(vector, bad)

        found = conjugate_gradient(product, gradient, radius=radius, tolerance=0.0, max_iter=100)
        before = conjugate_gradient(lambda v: matrix @ v, gradient, radius=radius, tolerance=0.0, max_iter=2)
        assert torch.equal(found.step, before.step)
        assert (found.decrease, found.iterations, found.ending) == (before.decrease, 3, "not finite")
        found = conjugate_gradient(lambda v: v, torch.tensor([bad, 1.0]), radius=radius)
        assert (found.step.tolist(), found.iterations, found.ending) == ([0.0, 0.0], 0, "not finite")


class TestTrustRegion:
    @settings(deadline=None, max_examples=examples(80))
    @given(ANY_SIGN, SEEDS, st.floats(0.01, 10))
    def test_decreases_at_least_to_the_cauchy_point(self, eigenvalues, seed, radius):
        matrix, gradient = symmetric(eigenvalues, seed)
        found = conjugate_gradient(lambda v: matrix @ v, gradient, radius=radius)
        size, curvature = float(gradient.norm()), float(gradient @ matrix @ gradient)
        tau = 1.0 if curvature <= 0 else min(1.0, size**3 / (radius * curvature))
        cauchy = model(matrix, gradient, -tau * radius / size * gradient)
        fallen = -model(matrix, gradient, found.step)
        assert fallen >= -cauchy * (1 - 1e-9)
        assert found.decrease == pytest.approx(fallen, rel=1e-7)
        assert float(found.step.norm()) <= radius * (1 + 1e-9)
        if found.ending in ("boundary", "negative curvature"):
            assert float(found.step.norm()) == pytest.approx(radius, rel=1e-9)

    @settings(deadline=None, max_examples=examples(40))
    @given(ANY_SIGN, SEEDS, st.floats(0.1, 10))
    def test_norms_increase_and_the_model_decreases(self, eigenvalues, seed, radius):
        """Steihaug 1983, theorem 2.1."""
        matrix, gradient = symmetric(eigenvalues, seed)
        path = [
            conjugate_gradient(lambda v: matrix @ v, gradient, radius=radius, max_iter=k)
            for k in range(len(gradient) + 1)
        ]
        for a, b in itertools.pairwise(path):
            assert b.step.norm() >= a.step.norm() * (1 - 1e-9)
            assert b.decrease >= a.decrease * (1 - 1e-12)

    def test_a_ball_that_contains_the_minimum_changes_nothing(self):
        matrix, gradient = symmetric([1.0, 2.0, 5.0])
        free = conjugate_gradient(lambda v: matrix @ v, gradient)
        held = conjugate_gradient(lambda v: matrix @ v, gradient, radius=1e6)
        assert torch.equal(free.step, held.step)
        assert held.ending == "converged"

    def test_in_a_small_ball_it_is_steepest_descent(self):
        matrix, gradient = symmetric([-3.0, 2.0, 5.0])
        found = conjugate_gradient(lambda v: matrix @ v, gradient, radius=1e-3)
        torch.testing.assert_close(found.step, -1e-3 * gradient / gradient.norm())


class TestLanczos:
    @settings(deadline=None, max_examples=examples(40))
    @given(st.lists(st.floats(-50, 50), min_size=1, max_size=15), SEEDS)
    def test_finds_both_ends(self, eigenvalues, seed):
        matrix, start = symmetric(eigenvalues, seed)
        found = lanczos(lambda v: matrix @ v, start, tolerance=1e-10)
        scale = max(map(abs, eigenvalues)) + 1e-12
        assert found.smallest == pytest.approx(min(eigenvalues), abs=1e-7 * scale)
        assert found.largest == pytest.approx(max(eigenvalues), abs=1e-7 * scale)

    @pytest.mark.parametrize("max_iter", [1, 2, 4, 8])
    def test_ritz_values_are_inside_the_spectrum_with_valid_error_bounds(self, max_iter):
        values = np.linspace(-3, 7, 40)
        matrix, start = symmetric(values.tolist())
        found = lanczos(lambda v: matrix @ v, start, max_iter=max_iter)
        assert values[0] <= found.smallest <= found.largest <= values[-1]
        assert np.abs(values - found.smallest).min() <= found.smallest_error * (1 + 1e-9)
        assert np.abs(values - found.largest).min() <= found.largest_error * (1 + 1e-9)
        assert found.products == max_iter

    def test_agrees_with_scipy_on_a_large_matrix(self):
        values = np.concatenate([[-0.5], np.geomspace(1e-3, 1, 197), [4.0, 60.0]])
        matrix, start = symmetric(values.tolist())
        found = lanczos(lambda v: matrix @ v, start, tolerance=1e-9)
        ends = scipy.sparse.linalg.eigsh(matrix.numpy(), k=2, which="BE", return_eigenvectors=False)
        assert [found.smallest, found.largest] == pytest.approx(sorted(ends), rel=1e-7)
        assert found.products < 60

    @pytest.mark.parametrize("start", [0.0, math.inf, math.nan])
    def test_a_zero_or_nonfinite_start_is_refused(self, start):
        with pytest.raises(ValueError, match="start"):
            lanczos(lambda v: v, torch.full((2,), start))
