"""Large groups: faster products, and Newton's polynomial from eigenvectors, against what they stand for."""

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
    """The other library, whatever the processor's maker."""
    multiply = product("onednn")
    if multiply is None:
        pytest.skip("this PyTorch has no oneDNN")
    monkeypatch.setattr(products, "_fast_product", lambda: multiply)


def covariance(groups: int, size: int, rows: int) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(groups, size, rows, dtype=torch.float64, generator=draw)
    return x @ x.mT / rows


class TestProducts:
    @pytest.mark.parametrize("groups", [1, 3])
    @pytest.mark.parametrize("turned", [(False, False), (False, True), (True, False), (True, True)])
    @pytest.mark.usefixtures("onednn")
    def test_of_another_library_are_as_exact(self, groups: int, turned: tuple[bool, bool]) -> None:
        torch.manual_seed(0)
        a, b = (
            torch.randn(groups, 150, 200).mT if each else torch.randn(groups, 200, 150) for each in turned
        )
        b = b.mT
        c = torch.randn(groups, 200, 200)
        assert products._is_large(a, b)
        exact = a.double() @ b.double()
        assert (matmul(a, b) - exact).norm() <= 2 * (a @ b - exact).norm()
        wanted = 3.0 * c - 0.5 * exact
        torch.testing.assert_close(
            baddbmm(c, a, b, beta=3.0, alpha=-0.5), wanted.float(), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(baddbmm(c[:1], a, b), (c[:1] + exact).float(), rtol=1e-4, atol=1e-4)

    def test_small_double_and_scattered_ones_stay_with_the_blas(self) -> None:
        large = torch.ones(1, 256, 256)
        assert products._is_large(large, large)
        assert not products._is_large(large[:, :63], large)
        assert not products._is_large(large.double(), large.double())
        assert not products._is_large(torch.ones(1, 256, 512)[:, :, :256], large)


@given(
    values=st.lists(st.floats(1e-3, 1.0), min_size=2, max_size=6),
    iterations=st.integers(1, 12),
)
def test_divided_differences_are_those_of_the_polynomial(values: list[float], iterations: int) -> None:
    """(p(a) - p(b))/(a - b) where that can be computed, and p' by autograd, also between equal numbers."""
    places = torch.tensor([*values, values[0]], dtype=torch.float64).requires_grad_()
    polynomial = torch.ones_like(places)
    for _ in range(iterations):
        polynomial = 1.5 * polynomial - 0.5 * polynomial**3 * places  # as printed
    (slope,) = torch.autograd.grad(polynomial.sum(), places)
    points, polynomial = places.detach(), polynomial.detach()
    torch.testing.assert_close(newton_values(points, iterations), polynomial, rtol=1e-8, atol=1e-8)
    found = newton_differences(points, iterations)
    torch.testing.assert_close(found.diagonal(), slope, rtol=1e-6, atol=1e-6)
    assert abs(found[0, -1] - slope[0]) <= 1e-6 * (1 + abs(slope[0]))
    apart = points[:, None] - points
    quotient = (polynomial[:, None] - polynomial) / apart
    far = apart.abs() > 1e-2
    torch.testing.assert_close(found[far], quotient[far], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("iterations", [5, 40])
def test_newton_from_eigenvectors_is_the_iteration(monkeypatch: pytest.MonkeyPatch, iterations: int) -> None:
    """Value and gradient, with repeated eigenvalues too."""
    root, stack = NewtonRoot(iterations, 1e-5), covariance(3, LARGE, 2 * LARGE)
    stack[2] = torch.eye(LARGE)
    direction = torch.randn(3, LARGE, LARGE, dtype=torch.float64)
    direction = direction + direction.mT
    found = []
    for least in (LARGE, LARGE + 1):
        monkeypatch.setattr(roots, "LARGE", least)
        matrix, saved = root.of(stack)
        found.append((len(saved), matrix, root.gradient(direction, saved)))
    (own, matrix, gradient), (steps, expected, theirs) = found
    assert own == 5 < steps
    torch.testing.assert_close(matrix, expected, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(gradient, theirs, rtol=1e-9, atol=1e-10)


def test_a_large_group_has_the_gradient_of_autograd() -> None:
    """Of the iteration as written, through the whole layer."""
    torch.manual_seed(0)
    layer = IterNorm1d(LARGE, groups=1).double()
    x = torch.randn(2 * LARGE, LARGE, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    (own,) = torch.autograd.grad(layer(x), x, direction)
    centred = x - x.mean(0)
    found = centred.T @ centred / len(x) + 1e-5 * torch.eye(LARGE)
    trace, matrix = found.trace(), torch.eye(LARGE, dtype=torch.float64)
    for _ in range(5):
        matrix = 1.5 * matrix - 0.5 * matrix @ matrix @ matrix @ (found / trace)
    (expected,) = torch.autograd.grad(centred @ matrix / trace.sqrt(), x, direction)
    torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("onednn")
def test_a_layer_agrees_with_float64() -> None:
    torch.manual_seed(0)
    x, direction = torch.randn(512, 256), torch.randn(512, 256)
    found = []
    for dtype in (torch.float32, torch.float64):
        rows = x.to(dtype).requires_grad_()
        y = IterNorm1d(256, groups=1).to(dtype)(rows)
        (slope,) = torch.autograd.grad(y, rows, direction.to(dtype))
        found.append((y.detach().double(), slope.double()))
    for own, exact in zip(*found, strict=True):
        assert (own - exact).norm() < 1e-5 * exact.norm()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_bad_numbers_come_out_of_a_large_group(bad: float) -> None:
    x = torch.randn(2 * LARGE, LARGE)
    x[3, 4] = bad
    assert not IterNorm1d(LARGE, groups=1)(x).isfinite().all()
