"""Inverse roots against eigenvectors in double precision, for spectra of various condition numbers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples

from descend.linalg import Stacking, inverse_root, inverse_roots, kronecker, largest_eigenvalue

METHODS = ["eigh", "newton"]
LINALG_ERROR = torch.linalg.LinAlgError  # type: ignore[attr-defined]  # PyTorch's stubs do not export it


def with_spectra(spectra, seed=0):
    """Matrices with the given spectra, in double precision, (k, n, n)."""
    values = torch.as_tensor(spectra, dtype=torch.float64)
    draw = torch.Generator().manual_seed(seed)
    shape = (*values.shape, values.shape[-1])
    rotation, _ = torch.linalg.qr(torch.randn(shape, generator=draw, dtype=torch.float64))
    found = (rotation * values.unsqueeze(-2)) @ rotation.mT
    return (found + found.mT) / 2


def oracle(stack, power, ridge=0.0):
    shifted = stack.double() + ridge * torch.eye(stack.shape[-1], dtype=torch.float64)
    values, vectors = torch.linalg.eigh(shifted)
    return (vectors * values.pow(-1 / power).unsqueeze(-2)) @ vectors.mT


def error(found, expected):
    norms = torch.linalg.matrix_norm(expected)
    return float((torch.linalg.matrix_norm(found.double() - expected) / norms).max())


class TestInverseRoot:
    @pytest.mark.parametrize("power", [1, 2, 3, 4, 6, 8])
    @pytest.mark.parametrize("method", METHODS)
    @settings(deadline=None, max_examples=examples(12), derandomize=True)
    @given(
        log_condition=st.floats(0.0, 6.0),
        size=st.integers(1, 24),
        log_scale=st.floats(-6.0, 6.0),
        shape=st.sampled_from(["even", "one large", "one small", "two"]),
        seed=st.integers(0, 1000),
    )
    def test_is_that_of_double_precision(self, method, power, log_condition, size, log_scale, shape, seed):
        """Powers of the root times A are I, by definition."""
        low = 10.0**-log_condition
        spectrum = {
            "even": torch.logspace(0, -log_condition, size, dtype=torch.float64),
            "one large": torch.tensor([1.0] + [low] * (size - 1)),
            "one small": torch.tensor([1.0] * (size - 1) + [low]),
            "two": torch.tensor([1.0 if place % 2 == 0 else low for place in range(size)]),
        }[shape]
        stack = with_spectra([spectrum.tolist(), [1.0] * size], seed) * 10.0**log_scale
        root = inverse_root(stack, power, 0.0, method)
        left = torch.linalg.matrix_power(root, power) @ stack
        assert float((left - torch.eye(size, dtype=torch.float64)).abs().max()) < 1e-13 * 100 / low
        assert torch.equal(root, root.mT)

    @pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
    @pytest.mark.parametrize("power", [1, 2, 3, 4, 6])
    @pytest.mark.parametrize(("method", "allowed"), [("eigh", 3.0), ("newton", 0.2)])
    def test_in_single_precision_the_error_is_proportional_to_the_condition(
        self, method, allowed, power, condition
    ):
        """Measured: 1.0 and 0.04 ε κ. The smallest eigenvalue is the ridge."""
        spectra = [torch.logspace(0, -math.log10(condition), 64).tolist()] * 3
        exact = with_spectra(spectra) * 7.0
        stack = exact.float()
        ridge = 7.0 / condition
        found = inverse_root(stack, power, ridge, method)
        bound = max(allowed * torch.finfo(torch.float32).eps * condition / power, 1e-5)
        assert error(found, oracle(exact, power, ridge)) < bound

    @pytest.mark.parametrize("condition", [1e2, 1e4, 1e6])
    def test_cholesky_yields_the_inverse(self, condition):
        exact = with_spectra([torch.logspace(0, -math.log10(condition), 64).tolist()] * 3) * 7.0
        found = inverse_root(exact.float(), 1, 7.0 / condition)
        assert error(found, oracle(exact, 1, 7.0 / condition)) < max(0.2 * 1.2e-7 * condition, 1e-5)

    @pytest.mark.parametrize("method", METHODS)
    def test_each_matrix_has_its_own_ridge(self, method):
        stack = with_spectra([[1.0, 2.0, 3.0], [0.0, 1.0, 5.0], [0.0, 0.0, 0.0]])
        ridges = torch.tensor([0.0, 0.5, 16.0], dtype=torch.float64)
        found = inverse_root(stack, 4, ridges, method)
        for each, ridge, root in zip(stack, ridges, found, strict=True):
            torch.testing.assert_close(root, oracle(each, 4, float(ridge)), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(found[2], 0.5 * torch.eye(3, dtype=torch.float64))

    @pytest.mark.parametrize("method", [*METHODS, "cholesky"])
    def test_a_relative_ridge_is_relative_to_the_largest_eigenvalue(self, method):
        stack = with_spectra([[1.0, 2.0, 8.0], [0.0, 1.0, 500.0]])
        power = 1 if method == "cholesky" else 4
        (found,) = inverse_roots([stack], [power], 0.25, method)
        for each, ridge, root in zip(stack, (2.0, 125.0), found, strict=True):
            torch.testing.assert_close(root, oracle(each, power, ridge), rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("method", [*METHODS, "auto"])
    def test_matrices_of_several_stacks_may_share_the_scale_of_their_ridge(self, method):
        stacks = [with_spectra([[1.0, 2.0, 8.0], [0.0, 1.0, 500.0]]), with_spectra([[0.0, 0.0], [0.1, 2.0]])]
        heard = []

        def units(largest):
            heard.extend(largest)
            # The first matrices of both stacks share a scale, and the second ones.
            both = torch.stack(largest).amax(0)
            return [both, both]

        found = inverse_roots(stacks, [4, 2], 0.25, method, units=units)
        torch.testing.assert_close(torch.stack(heard), torch.tensor([[8.0, 500.0], [0.0, 2.0]]).double())
        for stack, power, roots in zip(stacks, (4, 2), found, strict=True):
            for each, ridge, root in zip(stack, (2.0, 125.0), roots, strict=True):
                torch.testing.assert_close(root, oracle(each, power, ridge), rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("method", METHODS)
    def test_what_is_not_finite_only_affects_matrices_of_the_same_scale(self, method):
        stacks = [with_spectra([[1.0, 2.0, 4.0]] * 2), with_spectra([[1.0, 3.0]])]
        stacks[0][1, 0, 2] = stacks[0][1, 2, 0] = math.nan
        found = inverse_roots(stacks, [4, 4], 0.5, method)
        assert found[0][1].isnan().all()
        torch.testing.assert_close(found[0][0], oracle(stacks[0][0], 4, 2.0), rtol=1e-6, atol=1e-8)
        torch.testing.assert_close(found[1][0], oracle(stacks[1][0], 4, 1.5), rtol=1e-6, atol=1e-8)

    def test_the_scaled_iteration_takes_half_the_iterations_of_newton_s(self):
        for power, newton in ((1, 24), (2, 21), (4, 20)):
            taken = kronecker._iterations(1e-6, power, 1.2e-7)
            end, steps = 1e-6, 0
            while end < 1 - 1.2e-7:  # Newton: x ((p + 1 - x)/p)^p
                end, steps = end * ((power + 1 - end) / power) ** power, steps + 1
            assert steps >= newton
            assert taken <= 0.65 * steps

    @settings(deadline=None, max_examples=examples(60), derandomize=True)
    @given(low=st.floats(1e-7, 1.0), power=st.integers(1, 8))
    def test_the_scaling_keeps_the_spectrum_within_one(self, low, power):
        """The coefficients map [l, 1] onto [l⁺, 1]."""
        a, b, after = (
            float(each) for each in kronecker._coefficients(torch.tensor(low, dtype=torch.float64), power)
        )
        x = torch.logspace(math.log10(low), 0, 2001, dtype=torch.float64)
        y = x * (a - b * x) ** power
        assert float(y.max()) <= 1 + 1e-9
        assert float(y.min()) == pytest.approx(after, rel=1e-6)
        assert after >= low * (1 - 1e-9)


class TestIllConditioned:
    @pytest.mark.parametrize("method", [*METHODS, "auto"])
    @pytest.mark.parametrize("power", [1, 2, 4])
    def test_a_singular_matrix_without_ridge_is_finite_and_bounded(self, method, power):
        """Zero eigenvalues are raised to ε times the largest: the root is at most (ε λ)^(-1/power)."""
        vector = torch.randn(16, 1, generator=torch.Generator().manual_seed(0))
        stack = (vector @ vector.T).unsqueeze(0)
        found = inverse_root(stack, power, 0.0, method)
        largest = float(vector.square().sum())
        limit = (1.2e-7 * largest) ** (-1 / power)
        assert torch.isfinite(found).all()
        assert float(torch.linalg.matrix_norm(found, ord=2)) < 1.5 * limit
        along = (vector.mT @ found[0] @ vector / largest).item()
        assert along == pytest.approx(largest ** (-1 / power), rel=0.05 if power > 1 else 2.0)

    @pytest.mark.parametrize("method", METHODS)
    @pytest.mark.parametrize("power", [1, 2, 4])
    def test_a_condition_beyond_the_precision_is_handled(self, method, power):
        """κ = 1e12 in float32: the root of the ridge's side is right where the ridge is known."""
        exact = with_spectra([torch.logspace(0, -12, 32).tolist()] * 2)
        ridge = 1e-5
        found = inverse_root(exact.float(), power, ridge, method)
        assert error(found, oracle(exact, power, ridge)) < 0.05

    def test_if_cholesky_fails_eigenvectors_are_used(self):
        good, bad = with_spectra([[1.0, 2.0, 4.0], [-1e-3, 1.0, 2.0]]).float()
        found = inverse_root(torch.stack([good, bad]), 1, 1e-5)
        torch.testing.assert_close(found[0], oracle(good, 1, 1e-5).float(), rtol=1e-5, atol=1e-5)
        assert torch.equal(found[1:], inverse_root(bad.unsqueeze(0), 1, 1e-5, "eigh"))

    def test_a_zero_matrix_does_not_affect_cholesky_for_the_others(self):
        stack = torch.stack([with_spectra([[1.0, 2.0, 4.0]])[0].float(), torch.zeros(3, 3)])
        found = inverse_root(stack, 1, 0.0)
        torch.testing.assert_close(found[0], oracle(stack[0], 1).float(), rtol=1e-5, atol=1e-5)
        assert torch.equal(found[1:], inverse_root(stack[1:], 1, 0.0, "eigh"))

    def test_if_newton_does_not_converge_eigenvectors_are_used(self, monkeypatch):
        monkeypatch.setattr(kronecker, "_iterations", lambda low, power, eps: 3)
        stack = with_spectra([torch.logspace(0, -6, 8).tolist(), [1.0] * 8])
        found = inverse_root(stack, 4, 0.0, "newton")
        torch.testing.assert_close(found, oracle(stack, 4), rtol=1e-6, atol=1e-6)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    @pytest.mark.parametrize("method", [*METHODS, "auto"])
    @pytest.mark.parametrize("power", [1, 4])
    def test_what_is_not_finite_propagates_and_affects_no_other_matrix(self, method, power, bad):
        stack = with_spectra([[1.0, 2.0, 4.0]] * 3).float()
        stack[1, 0, 2] = bad
        found = inverse_root(stack, power, 0.0, method)
        assert found[1].isnan().all()
        for place in (0, 2):
            torch.testing.assert_close(
                found[place], oracle(stack[place], power).float(), rtol=1e-4, atol=1e-5
            )

    @pytest.mark.parametrize("method", METHODS)
    def test_zeros_have_a_finite_root(self, method):
        assert torch.isfinite(inverse_root(torch.zeros(2, 3, 3), 4, 0.0, method)).all()

    @pytest.mark.parametrize("scale", [1e-30, 1e30])
    @pytest.mark.parametrize("method", METHODS)
    def test_far_from_one_in_single_precision(self, method, scale):
        exact = with_spectra([[1.0, 3.0, 10.0]]) * scale
        found = inverse_root(exact.float(), 4, 0.0, method)
        assert error(found, oracle(exact, 4)) < 1e-5

    def test_refusals(self):
        with pytest.raises(ValueError, match="power must be 1 or more; got 0"):
            inverse_root(torch.eye(2).unsqueeze(0), 0, 0.0)
        with pytest.raises(ValueError, match="power 1; got power 2"):
            inverse_root(torch.eye(2).unsqueeze(0), 2, 0.0, "cholesky")


class TestLargestEigenvalue:
    @settings(deadline=None, max_examples=examples(40), derandomize=True)
    @given(
        values=st.lists(st.floats(0.0, 1e3).filter(lambda x: x == 0 or x > 1e-300), min_size=1, max_size=12),
        seed=st.integers(0, 1000),
    )
    def test_is_never_above_and_rarely_far_below(self, values, seed):
        stack = with_spectra([values], seed)
        exact = max(values)
        found = float(largest_eigenvalue(stack))
        assert exact / len(values) * (1 - 1e-9) <= found <= exact * (1 + 1e-9)

    def test_converges_where_there_is_a_gap(self):
        stack = with_spectra([[1.0, 2.0, 3.0, 9.0], [4.0, 1.0, 0.0, 0.0]])
        torch.testing.assert_close(
            largest_eigenvalue(stack), torch.tensor([9.0, 4.0]).double(), rtol=1e-9, atol=0
        )

    def test_starts_at_a_nonzero_column(self):
        assert largest_eigenvalue(torch.diag(torch.tensor([0.0, 0.0, 5.0])).unsqueeze(0)).item() == 5.0
        assert largest_eigenvalue(torch.zeros(1, 2, 2)).item() == 0.0


class TestFailuresOfLapack:
    """The divide-and-conquer routine can fail for covariances of images with pixels that are always zero."""

    def test_double_precision_is_used(self, monkeypatch):
        exact = with_spectra([[9.0, 4.0, 1.0], [16.0, 1.0, 1.0]])
        eigh, expected = torch.linalg.eigh, oracle(exact, 4, 1e-6)

        def fails_in_single(matrix):
            if matrix.dtype == torch.float32:
                raise LINALG_ERROR("the algorithm failed to converge")
            return eigh(matrix)

        monkeypatch.setattr(torch.linalg, "eigh", fails_in_single)
        assert error(inverse_root(exact.float(), 4, 1e-6, "eigh"), expected) < 1e-5

    def test_double_precision_is_used_if_nan_is_returned_silently(self, monkeypatch):
        stack = with_spectra([[1.0, 2.0, 4.0], [0.5, 1.0, 2.0]]).float()
        plain = torch.linalg.eigh

        def silent(matrices):
            values, vectors = plain(matrices)
            if matrices.dtype is torch.float32:
                vectors[1, :, 2] = math.nan
            return values, vectors

        monkeypatch.setattr(torch.linalg, "eigh", silent)
        values, vectors = kronecker.eigenvectors(stack)
        torch.testing.assert_close(vectors @ (values.unsqueeze(-1) * vectors.mT), stack)

    @pytest.mark.slow
    def test_covariances_with_rows_of_zeros_have_eigenvectors(self):
        """Intel's routine fails for some of these 300 matrices on one thread, as for the constant pixels of MNIST."""
        draw = torch.Generator().manual_seed(0)
        rows = torch.randn(300, 112, 28, generator=draw)
        for each in rows:
            each[torch.randperm(112, generator=draw)[:56]] = 0
        stack = 1e-6 * rows @ rows.mT
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            values, vectors = kronecker.eigenvectors(stack)
        finally:
            torch.set_num_threads(before)
        torch.testing.assert_close(
            vectors @ (values.unsqueeze(-1) * vectors.mT), stack, rtol=0, atol=1e-5 * float(values.max())
        )

    def test_a_matrix_that_fails_in_double_precision_is_nan_and_the_others_are_not(self, monkeypatch):
        exact = with_spectra([[9.0, 4.0, 1.0], [16.0, 1.0, 1.0]])
        eigh, last, expected = torch.linalg.eigh, exact[1].float().double(), oracle(exact[:1], 4, 1e-6)

        def fails(matrix):
            if matrix.dim() == 3 or torch.equal(matrix, last):
                raise LINALG_ERROR("the algorithm failed to converge")
            return eigh(matrix)

        monkeypatch.setattr(torch.linalg, "eigh", fails)
        found = inverse_root(exact.float(), 4, 1e-6, "eigh")
        assert torch.isnan(found[1]).all()
        assert error(found[:1], expected) < 1e-5


class TestStacking:
    def test_round_trip(self):
        draw = torch.Generator().manual_seed(0)
        shapes = [(2, 3), (4, 4), (2, 3), (3, 2), (4, 4), (2, 3)]
        tensors = [torch.randn(shape, generator=draw) for shape in shapes]
        stacking = Stacking(shapes)
        assert stacking.shapes == [(3, 2, 3), (2, 4, 4), (1, 3, 2)]
        stacks = stacking.stack(tensors)
        assert [tuple(stack.shape) for stack in stacks] == stacking.shapes
        for part, tensor in zip(stacking.parts(stacks), tensors, strict=True):
            assert torch.equal(part, tensor)

    def test_parts_are_views(self):
        stacking = Stacking([(2,), (3,), (2,)])
        stacks = [torch.zeros(shape) for shape in stacking.shapes]
        stacking.parts(stacks)[2].fill_(7.0)
        assert stacks[0].tolist() == [[0.0, 0.0], [7.0, 7.0]]

    def test_an_empty_list(self):
        assert Stacking([]).parts([]) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("power", [1, 2, 4])
def test_on_a_gpu_it_is_the_same_root(power):
    exact = with_spectra([torch.logspace(0, -4, 64).tolist()] * 5)
    found = inverse_root(exact.float().cuda(), power, 1e-4).cpu()
    assert error(found, oracle(exact, power, 1e-4)) < 1e-3
