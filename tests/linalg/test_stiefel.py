"""Operations on the Stiefel manifold against dense n × n algebra in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch import Tensor

from descend.linalg.stiefel import (
    CACHED,
    cayley,
    cayley_adjoint,
    cayley_iterated,
    equally_shaped,
    frames_of,
    nearest_frame_,
    off_frame,
    polar,
    polished,
    put_frames_,
    tangent,
)

DOUBLE = torch.float64
SHAPES = [(8, 3), (7, 5), (6, 6), (5, 1), (1, 1), (40, 4)]


def random_frames(
    n: int, q: int, batch: int = 3, dtype: torch.dtype = DOUBLE, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Random frames, and random vectors at them."""
    draw = torch.Generator().manual_seed(seed)
    numbers = torch.randn(2, batch, n, q, generator=draw, dtype=DOUBLE)
    return torch.linalg.qr(numbers[0])[0].to(dtype), numbers[1].to(dtype)


def skew(frames: Tensor, vectors: Tensor) -> Tensor:
    """W = Ŵ − Ŵᵀ, Ŵ = D Xᵀ − X (Xᵀ D Xᵀ)/2, as in Li et al., n × n."""
    half = vectors @ frames.mT - 0.5 * frames @ (frames.mT @ vectors @ frames.mT)
    return half - half.mT


def dense(frames: Tensor, vectors: Tensor, length: float) -> Tensor:
    """(I − t W/2)⁻¹ (I + t W/2) X by an n × n system."""
    w = length * skew(frames, vectors)
    eye = torch.eye(w.shape[-1], dtype=w.dtype)
    return torch.linalg.solve(eye - w / 2, (eye + w / 2) @ frames)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
class TestTangent:
    def test_is_w_x(self, shape: tuple[int, int]) -> None:
        x, d = random_frames(*shape)
        z = tangent(x, d)
        torch.testing.assert_close(z.at(x), skew(x, d) @ x, rtol=0, atol=1e-12)
        torch.testing.assert_close(
            z.length().flatten(), torch.linalg.matrix_norm(skew(x, d)), rtol=1e-12, atol=1e-13
        )

    def test_preserves_inner_products_of_columns(self, shape: tuple[int, int]) -> None:
        x, d = random_frames(*shape)
        z = tangent(x, d).at(x)
        assert (x.mT @ z + z.mT @ x).abs().max() < 1e-13

    def test_is_the_closest_tangent_vector(self, shape: tuple[int, int]) -> None:
        """The difference is orthogonal to every tangent vector."""
        x, d = random_frames(*shape)
        other = tangent(x, random_frames(*shape, seed=1)[1]).at(x)
        away = d - tangent(x, d).at(x)
        assert ((away * other).sum((1, 2)).abs() < 1e-12).all()

    def test_is_idempotent(self, shape: tuple[int, int]) -> None:
        x, d = random_frames(*shape)
        z = tangent(x, d).at(x)
        torch.testing.assert_close(tangent(x, z).at(x), z, rtol=0, atol=1e-13)


class TestCayley:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("length", [1e-3, -0.7, 30.0])
    def test_is_the_dense_transform(self, shape: tuple[int, int], length: float) -> None:
        x, d = random_frames(*shape)
        got = cayley(x, tangent(x, d), length)
        torch.testing.assert_close(got, dense(x, d, length), rtol=0, atol=1e-11)
        assert (off_frame(got) < 1e-11).all()

    @given(st.integers(1, 9), st.integers(1, 9), st.floats(-50, 50), st.integers(0, 1000))
    @settings(deadline=None, max_examples=examples(40))
    def test_for_any_frame(self, a: int, b: int, length: float, seed: int) -> None:
        x, d = random_frames(max(a, b), min(a, b), 2, seed=seed)
        torch.testing.assert_close(cayley(x, tangent(x, d), length), dense(x, d, length), rtol=0, atol=1e-9)

    def test_one_frame_is_a_batch_of_one(self) -> None:
        x, d = random_frames(6, 2)
        step = tangent(x[0], d[0])
        torch.testing.assert_close(cayley(x[0], step), cayley(x, tangent(x, d))[0])
        torch.testing.assert_close(polished(1.01 * x[0]), polished(1.01 * x)[0])
        torch.testing.assert_close(cayley_iterated(x[0], step, 2), cayley_iterated(x, tangent(x, d), 2)[0])

    def test_each_frame_may_have_its_own_length(self) -> None:
        x, d = random_frames(6, 2)
        lengths = torch.tensor([0.1, -2.0, 0.0], dtype=DOUBLE)
        got = cayley(x, tangent(x, d), lengths[:, None, None])
        for index, length in enumerate(lengths.tolist()):
            torch.testing.assert_close(got[index], dense(x, d, length)[index], rtol=0, atol=1e-12)
        assert torch.equal(got[2], x[2])

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("size", [0.0, 0.3, 4.0])
    def test_the_adjoint_of_its_derivative_is_that_of_the_dense_transform(
        self, shape: tuple[int, int], size: float
    ) -> None:
        """By automatic differentiation through the n × n system, without the q × q one."""
        x, d = random_frames(*shape)
        _, v = random_frames(*shape, seed=1)
        put = (size * d).requires_grad_()
        (expected,) = torch.autograd.grad(dense(x, put, 1.0), put, v)
        found = cayley_adjoint(x, tangent(x, size * d), v)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        one = cayley_adjoint(x[1], tangent(x[1], size * d[1]), v[1])
        torch.testing.assert_close(one, found[1], rtol=0, atol=1e-13)

    def test_is_a_retraction_of_second_order(self) -> None:
        """X⁺ = exp(t W) X + O(t³): halving t divides the distance by eight."""
        x, d = random_frames(7, 3, 1)
        w, step = skew(x, d), tangent(x, d)

        def gap(t: float) -> float:
            return float((cayley(x, step, t) - torch.linalg.matrix_exp(t * w) @ x).norm())

        assert math.log2(gap(1e-2) / gap(5e-3)) == pytest.approx(3, abs=0.1)

    @pytest.mark.parametrize("size", [1e3, 1e5])
    def test_a_huge_step_in_float32_stays_orthonormal(self, size: float) -> None:
        x, d = random_frames(64, 16, dtype=torch.float32)
        assert off_frame(polished(cayley(x, tangent(x, d * size)))).max() < 1e-6

    def test_a_tiny_step_in_float32_is_not_lost(self) -> None:
        """A change of 1e-6 is accurate to four digits, although entries are rounded to about 1e-8."""
        x, d = random_frames(50, 4, 1, dtype=torch.float32)
        moved = (cayley(x, tangent(x, d), 1e-5) - x).double()
        exact = dense(x.double(), d.double(), 1e-5) - x.double()
        assert float((moved - exact).norm() / exact.norm()) < 2e-3

    def test_no_system_is_of_size_n(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A known fault: solving n × n systems, O(n³). Here no matrix other than X has more than 2q rows and columns."""
        from torch.utils._python_dispatch import TorchDispatchMode

        n, q = 300, 4
        seen: list[Any] = []

        class Watch(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                found = out if isinstance(out, (tuple, list)) else (out,)
                seen.extend((str(func), tuple(t.shape)) for t in found if isinstance(t, Tensor))
                return out

        x, d = random_frames(n, q)
        with Watch():
            polished(cayley(x, tangent(x, d)))
            cayley_iterated(x, tangent(x, d), 3)
        assert max(math.prod(shape[1:]) for _, shape in seen) == n * q
        solved = [shape for name, shape in seen if "inv" in name or "solve" in name or "lu" in name]
        assert solved
        assert all(max(shape[1:], default=0) <= 2 * q for shape in solved)


class TestIterated:
    @pytest.mark.parametrize("iterations", [0, 1, 2, 3, 5])
    def test_error_is_of_order_s_plus_2(self, iterations: int) -> None:
        """The theorem of the paper: the slope of log error over log t."""
        x, d = random_frames(9, 3, 1)
        step = tangent(x, d / d.norm())

        def error(t: float) -> float:
            return float((cayley_iterated(x, step, iterations, t) - cayley(x, step, t)).norm())

        slope = math.log(error(0.08) / error(0.02)) / math.log(4)
        assert slope == pytest.approx(iterations + 2, abs=0.1)

    def test_steps_of_more_than_1_are_shortened(self) -> None:
        x, d = random_frames(9, 3)
        step = tangent(x, d)
        long = cayley_iterated(x, step, 40, 1e3)
        torch.testing.assert_close(long, cayley(x, step, 1 / step.length()), rtol=0, atol=1e-10)
        short = 0.5 / float(step.length().max())
        torch.testing.assert_close(
            cayley_iterated(x, step, 60, short), cayley(x, step, short), rtol=0, atol=1e-13
        )
        back = cayley_iterated(x, step, 40, -1e3)
        torch.testing.assert_close(back, cayley(x, step, -1 / step.length()), rtol=0, atol=1e-10)


class TestPolar:
    def test_polishing_squares_the_error(self) -> None:
        """XᵀX = I + E becomes I − 3 E²/4 + E³/4."""
        x, d = random_frames(8, 3, 1)
        x = x + 0.01 * d
        eye = torch.eye(3, dtype=DOUBLE)
        e = x.mT @ x - eye
        y = polished(x)
        torch.testing.assert_close(y.mT @ y - eye, -0.75 * e @ e + 0.25 * e @ e @ e, rtol=0, atol=1e-14)

    def test_polishing_converges_to_the_polar_factor(self) -> None:
        x, d = random_frames(8, 3)
        x = x + 0.1 * d
        torch.testing.assert_close(polished(x, 8), polar(x), rtol=0, atol=1e-13)

    @pytest.mark.parametrize("shape", [(256, 32), (512, 512)], ids=str)
    def test_in_float32_its_rounding_is_negligible(self, shape: tuple[int, int]) -> None:
        """In the Frobenius norm: with XᵀX in float32 it would be 6e-6 for 512 × 512."""
        x, _ = random_frames(*shape, 1, dtype=torch.float32)
        y = polished(x).double()
        excess = y.mT @ y - torch.eye(shape[1], dtype=DOUBLE)
        assert torch.linalg.matrix_norm(excess).max() < 1e-6

    def test_is_x_times_the_inverse_root(self) -> None:
        _, d = random_frames(6, 4)
        values, vectors = torch.linalg.eigh(d.mT @ d)
        root = vectors @ torch.diag_embed(values.rsqrt()) @ vectors.mT
        torch.testing.assert_close(polar(d), d @ root, rtol=0, atol=1e-12)

    @pytest.mark.parametrize("matrix", [torch.zeros(4, 2), torch.ones(4, 2)], ids=["zero", "rank 1"])
    def test_rank_deficient_matrices(self, matrix: Tensor) -> None:
        assert off_frame(polar(matrix)) < 1e-6
        assert torch.equal(polar(matrix), polar(matrix))

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_matrix_that_is_not_finite_is_nan_and_affects_no_other(self, bad: float) -> None:
        _, d = random_frames(6, 4)
        expected = polar(d)
        d[1, 2, 3] = bad
        found = polar(d)
        assert found[1].isnan().all()
        assert torch.equal(found[[0, 2]], expected[[0, 2]])


class TestWeights:
    @pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4), (2, 3, 2, 2), (9, 2, 2)], ids=str)
    def test_round_trip(self, shape: tuple[int, ...]) -> None:
        weights = list(torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)))
        frames = frames_of(weights)
        assert frames.shape[1] >= frames.shape[2]
        assert frames.shape[1] * frames.shape[2] == weights[0].numel()
        fresh = [torch.zeros_like(weight) for weight in weights]
        put_frames_(fresh, frames)
        assert all(torch.equal(a, b) for a, b in zip(fresh, weights, strict=True))

    def test_wide_weights_have_orthonormal_rows(self) -> None:
        weight = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(0))
        nearest_frame_(weight)
        rows = weight.flatten(1)
        torch.testing.assert_close(rows @ rows.T, torch.eye(3), rtol=0, atol=1e-6)

    def test_an_orthonormal_weight_is_not_changed(self) -> None:
        weight = torch.nn.init.orthogonal_(torch.empty(6, 4), generator=torch.Generator().manual_seed(0))
        nearest_frame_(weight)
        before = weight.clone()
        nearest_frame_(weight)
        assert torch.equal(weight, before)

    def test_bfloat16(self) -> None:
        weight = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
        assert frames_of([weight]).dtype == torch.float32
        nearest_frame_(weight)
        assert off_frame(frames_of([weight])) < 0.02

    def test_stacks_have_one_kind_and_a_limited_size(self) -> None:
        weights = [torch.zeros(2, 3), torch.zeros(2, 3, dtype=DOUBLE), torch.zeros(3, 2), torch.zeros(2, 3)]
        assert equally_shaped(weights) == [[0, 3], [1], [2]]
        many = [torch.empty(256, 32)] * 40
        assert [len(each) for each in equally_shaped(many)] == [
            CACHED // 8192,
            CACHED // 8192,
            40 - 2 * CACHED // 8192,
        ]
        assert equally_shaped([torch.empty(1000, 1000)] * 2) == [[0], [1]]
