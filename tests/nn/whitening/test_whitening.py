"""Whitening layers: covariance, gradients for repeated eigenvalues, running statistics."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.examples import examples
from torch import nn

from descend.errors import UserError
from descend.nn import DecorrelatedBatchNorm1d, DecorrelatedBatchNorm2d, IterNorm1d, IterNorm2d
from descend.nn.whitening import Whitening, whiten
from descend.nn.whitening.layer import group_count
from descend.nn.whitening.roots import NewtonRoot, SpectralRoot, power_series

DOUBLE = torch.float64


def rows(count: int, features: int, seed: int = 0, dtype: torch.dtype = DOUBLE) -> torch.Tensor:
    """Correlated rows with a nonzero mean."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(features, features, dtype=DOUBLE, generator=generator)
    mean = torch.randn(features, dtype=DOUBLE, generator=generator)
    return (torch.randn(count, features, dtype=DOUBLE, generator=generator) @ mixing + 3.0 * mean).to(dtype)


def images(seed: int = 0) -> torch.Tensor:
    return rows(6 * 5 * 4, 6, seed).view(6, 5, 4, 6).permute(0, 3, 1, 2).contiguous()


def covariance(y: torch.Tensor) -> torch.Tensor:
    flat = y if y.dim() == 2 else y.transpose(0, 1).reshape(y.shape[1], -1).T
    return torch.cov(flat.T, correction=0)


def reference(x: torch.Tensor, groups: int, eps: float) -> torch.Tensor:
    """Whiten one group at a time, with the matrix square root of SciPy."""
    parts = []
    for part in x.chunk(groups, 1):
        centered = part - part.mean(0)
        of_part = centered.T @ centered / len(x) + eps * torch.eye(part.shape[1], dtype=DOUBLE)
        root = torch.from_numpy(scipy.linalg.inv(scipy.linalg.sqrtm(of_part.numpy())).real)
        parts.append(centered @ root)
    return torch.cat(parts, 1)


class TestForward:
    @pytest.mark.parametrize("groups", [1, 2, 3])
    def test_whitens_each_group_by_the_symmetric_root(self, groups: int) -> None:
        x = rows(40, 6)
        layer = DecorrelatedBatchNorm1d(6, groups=groups, eps=0.01).double()
        torch.testing.assert_close(layer(x), reference(x, groups, 0.01), rtol=1e-9, atol=1e-10)

    def test_the_covariance_of_a_batch_is_the_identity(self) -> None:
        y = DecorrelatedBatchNorm1d(6, eps=1e-10).double()(rows(40, 6))
        torch.testing.assert_close(covariance(y), torch.eye(6, dtype=DOUBLE), rtol=0, atol=1e-7)
        torch.testing.assert_close(y.mean(0), torch.zeros(6, dtype=DOUBLE), rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        "layer", [DecorrelatedBatchNorm2d(6, groups=2), IterNorm2d(6, groups=2, iterations=3)]
    )
    def test_positions_of_images_count_as_rows(self, layer: Whitening) -> None:
        x = images()
        flat = x.permute(0, 2, 3, 1).reshape(-1, 6)
        layer_1d = (
            DecorrelatedBatchNorm1d(6, groups=2)
            if "Deco" in repr(layer)
            else IterNorm1d(6, groups=2, iterations=3)
        )
        expected = layer_1d.double()(flat).view(6, 5, 4, 6).permute(0, 3, 1, 2)
        torch.testing.assert_close(layer.double()(x), expected, rtol=1e-10, atol=1e-12)

    def test_positions_of_sequences_count_as_rows(self) -> None:
        x = images().flatten(2)
        expected = DecorrelatedBatchNorm2d(6, groups=2).double()(images()).flatten(2)
        torch.testing.assert_close(DecorrelatedBatchNorm1d(6, groups=2).double()(x), expected)

    def test_groups_of_one_channel_are_batch_norm(self) -> None:
        x = rows(30, 5)
        result = DecorrelatedBatchNorm1d(5, groups=5, eps=1e-5).double()(x)
        torch.testing.assert_close(result, nn.BatchNorm1d(5, eps=1e-5).double()(x), rtol=1e-10, atol=1e-12)

    @given(st.integers(1, 5), st.integers(0, 10**6))
    @settings(deadline=None, max_examples=examples(25))
    def test_commutes_with_an_orthogonal_change_of_basis(self, features: int, seed: int) -> None:
        """ZCA is the only whitening that commutes with rotations."""
        x = rows(50, features, seed)
        rotation, _ = torch.linalg.qr(rows(features, features, seed + 1))
        layer = DecorrelatedBatchNorm1d(features, groups=1).double()
        torch.testing.assert_close(layer(x @ rotation), layer(x) @ rotation, rtol=1e-7, atol=1e-8)

    def test_newton_converges_to_decorrelated_batch_norm(self) -> None:
        x = rows(60, 4)
        expected = DecorrelatedBatchNorm1d(4, groups=1, eps=1e-3).double()(x)
        errors = [
            float(
                (IterNorm1d(4, groups=1, eps=1e-3, iterations=t).double()(x) - expected).detach().abs().max()
            )
            for t in (1, 5, 10, 20, 40)
        ]
        assert all(later < before for before, later in itertools.pairwise(errors))
        assert errors[1] > 1e-2  # five steps have not converged
        assert errors[-1] < 1e-9

    def test_one_newton_step_by_hand(self) -> None:
        x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, -2.0]], dtype=DOUBLE)
        # Covariance diag(1/2, 2), trace 5/2; P = (3 - N)/2 = diag(1.4, 1.1).
        y = IterNorm1d(2, iterations=1, eps=1e-30).double()(x)
        torch.testing.assert_close(y, x * torch.tensor([1.4, 1.1], dtype=DOUBLE) / 2.5**0.5)


GRADIENT_CASES = [
    (DecorrelatedBatchNorm1d, {"groups": 2}),
    (DecorrelatedBatchNorm1d, {"groups": 1, "affine": False}),
    (IterNorm1d, {"groups": 2}),
    (IterNorm1d, {"groups": 1, "iterations": 1}),
    (IterNorm1d, {"groups": 3, "iterations": 9}),
    (DecorrelatedBatchNorm2d, {"groups": 2}),
    (IterNorm2d, {"groups": 2}),
]


class TestGradient:
    @pytest.mark.slow
    @pytest.mark.parametrize(("kind", "options"), GRADIENT_CASES, ids=str)
    def test_first_and_second_derivatives(self, kind: type[Whitening], options: dict[str, object]) -> None:
        layer = kind(6, **options).double()
        x = (images()[:2, :, :2, :2] if kind in (DecorrelatedBatchNorm2d, IterNorm2d) else rows(9, 6)).clone()
        leaves = [x.requires_grad_()]
        if layer.weight is not None:
            leaves += [rows(1, 6, 1)[0].requires_grad_(), rows(1, 6, 2)[0].requires_grad_()]

        def run(x: torch.Tensor, *affine: torch.Tensor) -> torch.Tensor:
            named = dict(zip(("weight", "bias"), affine, strict=False))
            return torch.func.functional_call(layer, named, (x,))

        assert torch.autograd.gradcheck(run, leaves)
        assert torch.autograd.gradgradcheck(run, leaves, atol=1e-4)

    @pytest.mark.parametrize("root", [SpectralRoot(1e-3), NewtonRoot(5, 1e-3)], ids=["spectral", "newton"])
    def test_the_fast_gradient_equals_autograd(self, root: SpectralRoot | NewtonRoot) -> None:
        x = rows(30, 8).requires_grad_()
        layer = (DecorrelatedBatchNorm1d if isinstance(root, SpectralRoot) else IterNorm1d)(
            8, groups=2, eps=1e-3
        )
        direction = rows(30, 8, 3)
        (gradient,) = torch.autograd.grad((layer.double()(x) * direction).sum(), x)
        (plain,) = torch.autograd.grad((whiten(x, root, 2) * direction).sum(), x)
        torch.testing.assert_close(gradient, plain, rtol=1e-8, atol=1e-10)

    @pytest.mark.parametrize("backward", ["exact", "power_iteration"])
    def test_is_finite_where_the_gradient_of_eigh_is_not(self, backward: str) -> None:
        """The rows are ± pairs along the axes, so that all eigenvalues of the covariance are equal."""
        x = torch.cat([torch.eye(4, dtype=DOUBLE), -torch.eye(4, dtype=DOUBLE)]).requires_grad_()
        direction = rows(8, 4, 5)
        centered = x - x.mean(0)
        values, vectors = torch.linalg.eigh(centered.T @ centered / 8)
        naive = centered @ vectors @ torch.diag(values.rsqrt()) @ vectors.T
        (naive_gradient,) = torch.autograd.grad((naive * direction).sum(), x)
        assert not naive_gradient.isfinite().all()
        layer = DecorrelatedBatchNorm1d(4, backward=backward, eps=1e-12).double()
        (gradient,) = torch.autograd.grad((layer(x) * direction).sum(), x)
        assert gradient.isfinite().all()
        if backward == "exact":  # compare with central differences
            assert torch.autograd.gradcheck(DecorrelatedBatchNorm1d(4, eps=1e-12).double(), (x,))

    def test_nearly_repeated_eigenvalues_in_float32(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x = torch.cat([torch.eye(4), -torch.eye(4)]) + 1e-7 * torch.randn(8, 4, generator=generator)
        direction = torch.randn(8, 4, generator=generator)

        def gradient(dtype: torch.dtype) -> torch.Tensor:
            leaf = x.to(dtype).requires_grad_()
            layer = DecorrelatedBatchNorm1d(4).to(dtype)
            return torch.autograd.grad((layer(leaf) * direction.to(dtype)).sum(), leaf)[0].double()

        torch.testing.assert_close(gradient(torch.float32), gradient(DOUBLE), rtol=1e-4, atol=1e-5)

    def test_a_second_derivative_of_the_approximation_is_rejected(self) -> None:
        x = rows(9, 4).requires_grad_()
        y = DecorrelatedBatchNorm1d(4, backward="power_iteration").double()(x)
        with pytest.raises(UserError, match=r"cannot be differentiated.*backward='exact'"):
            torch.autograd.grad(y.square().sum(), x, create_graph=True)


class TestPowerIteration:
    def test_equals_the_unrolled_iteration_from_the_first_eigenvector(self) -> None:
        """Autograd through K steps from the eigenvector as a constant, which involves only 1/(λ_1 - λ_j)."""
        half = rows(5, 5, 7)
        matrix = (half @ half.T).requires_grad_()
        values, vectors = torch.linalg.eigh(matrix.detach())
        vector = vectors[:, -1]
        for _ in range(6):
            vector = matrix @ vector
            vector = vector / vector.norm()
        direction = rows(1, 5, 8)[0]
        (gradient,) = torch.autograd.grad(vector @ direction, matrix)
        series = power_series(values, 6)[-1]  # row of the largest
        first = vectors[:, -1]
        expected = torch.outer(vectors @ (series * (vectors.T @ direction)), first)
        torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)

    def test_the_relative_error_is_a_power_of_the_ratio(self) -> None:
        values = torch.tensor([1.0, 2.0, 5.0], dtype=DOUBLE)
        exact = 1.0 / (values[:, None] - values[None, :]).masked_fill(torch.eye(3, dtype=torch.bool), 1.0)
        ratio = torch.minimum(values[:, None], values) / torch.maximum(values[:, None], values)
        expected = exact * (1.0 - ratio**7)
        torch.testing.assert_close(power_series(values, 7), expected.fill_diagonal_(0.0))

    def test_many_steps_converge_to_the_exact_gradient(self) -> None:
        x = rows(30, 4).requires_grad_()
        gradients = [
            torch.autograd.grad(layer.double()(x).pow(3).sum(), x)[0]
            for layer in (
                DecorrelatedBatchNorm1d(4),
                DecorrelatedBatchNorm1d(4, backward="power_iteration", iterations=2000),
            )
        ]
        torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-8)


class TestFloat32:
    @pytest.mark.parametrize("kind", [DecorrelatedBatchNorm1d, IterNorm1d])
    @pytest.mark.parametrize(("scale", "offset"), [(1.0, 1e3), (1e4, 0.0), (1e-4, 0.0)])
    def test_agrees_with_float64(self, kind: Callable[..., Whitening], scale: float, offset: float) -> None:
        x = rows(200, 16, dtype=torch.float32) * scale + offset
        expected = kind(16).double()(x.double())
        torch.testing.assert_close(kind(16)(x).double(), expected, rtol=2e-3, atol=4e-3)

    def test_fewer_rows_than_channels(self) -> None:
        x = rows(5, 16, dtype=torch.float32).requires_grad_()
        layer = DecorrelatedBatchNorm1d(16)
        layer(x).pow(2).sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()

    def test_dead_channels(self) -> None:
        x = rows(20, 6, dtype=torch.float32)
        x[:, 2:] = 0.0
        x.requires_grad_()
        for layer in (DecorrelatedBatchNorm1d(6), IterNorm1d(6)):
            y = layer(x)
            (gradient,) = torch.autograd.grad(y.pow(2).sum(), x)
            assert y[:, 2:].abs().max() == 0.0
            assert gradient.isfinite().all()

    @pytest.mark.parametrize("kind", [DecorrelatedBatchNorm1d, IterNorm1d])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
    def test_nonfinite_inputs_give_nonfinite_outputs(
        self, kind: Callable[..., Whitening], value: float
    ) -> None:
        x = rows(20, 6, dtype=torch.float32)
        x[3, 1] = value
        assert not kind(6)(x).isfinite().all()

    def test_statistics_of_half_precision_are_float32(self) -> None:
        x = rows(100, 8, dtype=torch.float32)
        layer = DecorrelatedBatchNorm1d(8)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = layer(x.bfloat16())
            evaluated = layer.eval()(x.bfloat16())
        assert y.dtype == evaluated.dtype == torch.bfloat16
        assert layer.running_covariance.dtype == torch.float32
        expected = DecorrelatedBatchNorm1d(8)(x.bfloat16().float())
        torch.testing.assert_close(y.float(), expected, rtol=1e-2, atol=1e-2)


class TestRunningStatistics:
    @pytest.mark.slow
    @pytest.mark.parametrize("kind", [DecorrelatedBatchNorm1d, IterNorm1d])
    def test_evaluation_matches_large_data(self, kind: Callable[..., Whitening]) -> None:
        """After many small batches, the outputs in evaluation equal those of whitening all rows at once."""
        data = rows(40_000, 4, 3)
        layer = kind(4, momentum=0.002).double()
        for batch in data.split(10):
            layer(batch)
        layer.eval()
        evaluated = layer(data)
        torch.testing.assert_close(evaluated, kind(4).double()(data), rtol=0, atol=0.12)
        torch.testing.assert_close(
            covariance(evaluated), covariance(kind(4).double()(data)), rtol=0, atol=0.06
        )

    def test_averages_of_whitening_matrices_are_biased(self) -> None:
        """The average of the papers is too large for small batches; the test above would detect it."""
        data = rows(40_000, 4, 3)
        root = SpectralRoot(1e-3)
        matrices = [root.of(covariance(batch).unsqueeze(0))[0][0] for batch in data.split(10)]
        whitened = (data - data.mean(0)) @ torch.stack(matrices).mean(0)
        assert (covariance(whitened).diagonal() - 1.0).min() > 0.3

    def test_running_averages_match_a_loop(self) -> None:
        layer = DecorrelatedBatchNorm1d(4, groups=2, momentum=0.3).double()
        mean, average = torch.zeros(4, dtype=DOUBLE), torch.eye(4, dtype=DOUBLE)
        for seed in range(3):
            x = rows(12, 4, seed)
            layer(x)
            mean = 0.7 * mean + 0.3 * x.mean(0)
            average = 0.7 * average + 0.3 * torch.cov(x.T)
        torch.testing.assert_close(layer.running_mean, mean)
        torch.testing.assert_close(layer.running_covariance, torch.stack([average[:2, :2], average[2:, 2:]]))
        root = scipy.linalg.inv(scipy.linalg.sqrtm((average[:2, :2] + 1e-3 * torch.eye(2)).numpy()))
        torch.testing.assert_close(layer.eval().running_whitening[0], torch.from_numpy(root))

    def test_evaluation_does_not_change_averages_and_treats_rows_independently(self) -> None:
        layer = IterNorm1d(6).double()
        layer(rows(30, 6))
        layer.eval()
        before = copy.deepcopy(layer.state_dict())
        x = rows(7, 6, 1)
        whole = layer(x)
        torch.testing.assert_close(torch.cat([layer(row[None]) for row in x]), whole, rtol=1e-12, atol=1e-12)
        assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())

    def test_a_state_saved_in_training_is_restored(self) -> None:
        """The stored matrix is outdated, and the restored layer computes it again."""
        layer, other = DecorrelatedBatchNorm1d(6), DecorrelatedBatchNorm1d(6)
        layer(rows(30, 6, dtype=torch.float32))
        layer.eval().train()
        layer(rows(30, 6, 1, dtype=torch.float32))
        other.load_state_dict(copy.deepcopy(layer.state_dict()))
        x = rows(9, 6, 2, dtype=torch.float32)
        assert torch.equal(other.eval()(x), layer.eval()(x))

    def test_a_state_saved_in_evaluation_is_used_unchanged(self) -> None:
        """The matrix is not computed again, so that rounding on another machine cannot change a prediction."""
        layer = DecorrelatedBatchNorm1d(6)
        layer(rows(30, 6, dtype=torch.float32))
        state = layer.eval().state_dict()
        state["running_whitening"] = state["running_whitening"] + 1.0
        other = DecorrelatedBatchNorm1d(6)
        other.load_state_dict(state)
        assert torch.equal(other.eval().running_whitening, state["running_whitening"])


class TestErrors:
    def test_a_single_row(self) -> None:
        with pytest.raises(UserError, match="a batch of one row has none"):
            DecorrelatedBatchNorm1d(3)(torch.zeros(1, 3))
        assert DecorrelatedBatchNorm1d(3).eval()(torch.zeros(1, 3)).shape == (1, 3)
        assert IterNorm2d(3)(torch.randn(1, 3, 2, 2)).isfinite().all()

    def test_shapes(self) -> None:
        with pytest.raises(
            UserError, match=r"IterNorm2d expects inputs of shape \(n, C, H, W\), got \(2, 3\)"
        ):
            IterNorm2d(3)(torch.zeros(2, 3))
        with pytest.raises(UserError, match="expects 3 channels, got 4"):
            IterNorm1d(3)(torch.zeros(2, 4))

    def test_groups(self) -> None:
        with pytest.raises(UserError, match=r"4 groups do not divide 6 features; use one of \[1, 2, 3, 6\]"):
            DecorrelatedBatchNorm1d(6, groups=4)

    @given(st.integers(1, 300))
    def test_automatic_groups(self, features: int) -> None:
        count = group_count(features, "auto")
        assert features % count == 0
        assert features // count <= 16
        assert not [g for g in range(1, count) if features % g == 0 and features // g <= 16]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("kind", [DecorrelatedBatchNorm1d, IterNorm1d])
def test_on_a_gpu(kind: Callable[..., Whitening]) -> None:
    x = rows(100, 16, dtype=torch.float32)
    layer = kind(16)
    result = copy.deepcopy(layer).cuda()(x.cuda()).cpu()
    torch.testing.assert_close(result, layer(x), rtol=1e-3, atol=1e-3)
