"""Large groups: fast products, and Newton's polynomial by an eigendecomposition, compared with the direct computations."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from descend.linalg.products import product
from descend.nn import IterNorm1d
from descend.nn.whitening import products, roots
from descend.nn.whitening.products import baddbmm, matmul
from descend.nn.whitening.roots import LARGE, NewtonRoot
from descend.nn.whitening.spectrum import newton_differences, newton_values


@pytest.fixture
def onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use oneDNN on any processor."""
    multiply = product("onednn")
    if multiply is None:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "_fast_product", lambda: multiply)


def covariance(groups: int, size: int, rows: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(groups, size, rows, dtype=torch.float64, generator=generator)
    return x @ x.mT / rows


class TestProducts:
    @pytest.mark.parametrize("groups", [1, 3])
    @pytest.mark.parametrize("transposed", [(False, False), (False, True), (True, False), (True, True)])
    @pytest.mark.usefixtures("onednn")
    def test_another_library_is_equally_accurate(self, groups: int, transposed: tuple[bool, bool]) -> None:
        torch.manual_seed(0)
        a, b = (
            torch.randn(groups, 150, 200).mT if each else torch.randn(groups, 200, 150) for each in transposed
        )
        b = b.mT
        c = torch.randn(groups, 200, 200)
        assert products._is_large(a, b)
        exact = a.double() @ b.double()
        assert (matmul(a, b) - exact).norm() <= 2 * (a @ b - exact).norm()
        expected = 3.0 * c - 0.5 * exact
        torch.testing.assert_close(
            baddbmm(c, a, b, beta=3.0, alpha=-0.5), expected.float(), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(baddbmm(c[:1], a, b), (c[:1] + exact).float(), rtol=1e-4, atol=1e-4)

    def test_small_float64_and_strided_products_use_the_blas(self) -> None:
        large = torch.ones(1, 256, 256)
        assert products._is_large(large, large)
        assert not products._is_large(large[:, :63], large)
        assert not products._is_large(large.double(), large.double())
        assert not products._is_large(torch.ones(1, 256, 512)[:, :, :256], large)


@given(
    values=st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=6),
    iterations=st.integers(1, 12),
)
def test_divided_differences_match_the_polynomial(values: list[float], iterations: int) -> None:
    """Compare with (p(a) - p(b))/(a - b) where a ≠ b, and with p' by autograd, for equal numbers as well."""
    points = torch.tensor([*values, values[0]], dtype=torch.float64).requires_grad_()
    polynomial = torch.ones_like(points)
    for _ in range(iterations):
        polynomial = 1.5 * polynomial - 0.5 * polynomial**3 * points
    (derivative,) = torch.autograd.grad(polynomial.sum(), points)
    points, polynomial = points.detach(), polynomial.detach()
    torch.testing.assert_close(newton_values(points, iterations), polynomial, rtol=1e-8, atol=1e-8)
    differences = newton_differences(points, iterations)
    torch.testing.assert_close(differences.diagonal(), derivative, rtol=1e-6, atol=1e-6)
    assert abs(differences[0, -1] - derivative[0]) <= 1e-6 * (1 + abs(derivative[0]))
    distance = points[:, None] - points
    quotient = (polynomial[:, None] - polynomial) / distance
    far = distance.abs() > 1e-2
    torch.testing.assert_close(differences[far], quotient[far], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("iterations", [5, 40])
def test_newton_by_eigendecomposition_equals_the_iteration(
    monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    """Value and gradient, for repeated eigenvalues as well."""
    root, stack = NewtonRoot(iterations, 1e-5), covariance(3, LARGE, 2 * LARGE)
    stack[2] = torch.eye(LARGE)
    direction = torch.randn(3, LARGE, LARGE, dtype=torch.float64)
    direction = direction + direction.mT
    results = []
    for threshold in (LARGE, LARGE + 1):
        monkeypatch.setattr(roots, "LARGE", threshold)
        matrix, saved = root.of(stack)
        results.append((len(saved), matrix, root.gradient(direction, saved)))
    (saved_count, matrix, gradient), (steps, expected, expected_gradient) = results
    assert saved_count == 5 < steps
    torch.testing.assert_close(matrix, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-10)


def test_the_gradient_of_a_large_group_matches_autograd() -> None:
    """Autograd through the plain iteration and the whole layer."""
    torch.manual_seed(0)
    layer = IterNorm1d(LARGE, groups=1).double()
    x = torch.randn(2 * LARGE, LARGE, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    (gradient,) = torch.autograd.grad(layer(x), x, direction)
    centered = x - x.mean(0)
    shifted = centered.T @ centered / len(x) + 1e-5 * torch.eye(LARGE)
    trace, matrix = shifted.trace(), torch.eye(LARGE, dtype=torch.float64)
    for _ in range(5):
        matrix = 1.5 * matrix - 0.5 * matrix @ matrix @ matrix @ (shifted / trace)
    (expected,) = torch.autograd.grad(centered @ matrix / trace.sqrt(), x, direction)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("onednn")
def test_a_layer_agrees_with_float64() -> None:
    torch.manual_seed(0)
    x, direction = torch.randn(512, 256), torch.randn(512, 256)
    results = []
    for dtype in (torch.float32, torch.float64):
        rows = x.to(dtype).requires_grad_()
        y = IterNorm1d(256, groups=1).to(dtype)(rows)
        (gradient,) = torch.autograd.grad(y, rows, direction.to(dtype))
        results.append((y.detach().double(), gradient.double()))
    for single, double in zip(*results, strict=True):
        assert (single - double).norm() < 1e-5 * double.norm()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nonfinite_inputs_give_nonfinite_outputs(value: float) -> None:
    x = torch.randn(2 * LARGE, LARGE)
    x[3, 4] = value
    assert not IterNorm1d(LARGE, groups=1)(x).isfinite().all()
