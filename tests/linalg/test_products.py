"""The library for large products: accurate to float32 rounding, and used for large products only."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from descend.linalg import products
from descend.linalg.products import LARGE, best_library, is_large, product
from descend.training.chain import Chain

needs_onednn = pytest.mark.skipif(product("onednn") is None, reason="this PyTorch has no oneDNN")


@needs_onednn
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_as_accurate_as_the_blas(transposed: bool) -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(64, 700), torch.randn(300, 700), torch.randn(300)
    if transposed:  # as in the derivatives: views, not copies
        x, w = torch.randn(700, 64).t(), torch.randn(700, 300).t()
    exact = torch.addmm(b.double(), x.double(), w.double().t())
    multiply = product("onednn")
    assert multiply is not None
    own, blas = (multiply(x, w, b) - exact).norm(), (torch.addmm(b, x, w.t()) - exact).norm()
    assert own <= 2 * blas
    assert blas < 1e-6 * exact.norm()
    assert (multiply(x, w, None) - x.double() @ w.double().t()).norm() <= 2 * blas


@needs_onednn
def test_gradients_of_a_large_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(300, 200), nn.ReLU(), nn.Linear(200, 200), nn.Tanh(), nn.Linear(200, 3))
    rows, direction = torch.randn(64, 300), torch.randn(64, 3)
    used = []
    honest = products.product

    def counted(library: products.Library) -> products.Product | None:
        multiply = honest(library)
        assert multiply is not None
        return lambda x, w, b: used.append(1) or multiply(x, w, b)

    monkeypatch.setattr("descend.training.chain.product", counted)
    chain = Chain.of(model, "onednn")
    assert chain is not None
    with torch.no_grad():
        _, saved = chain.forward(rows)
        gradients = chain.backward(direction, saved)
    assert len(used) == 5  # two products forward, two for weights, one for inputs; the last layer is small
    exact = model.double()
    exact(rows.double()).backward(direction.double())
    for gradient, parameter in zip(gradients, exact.parameters(), strict=True):
        assert parameter.grad is not None
        assert (gradient - parameter.grad).norm() / parameter.grad.norm() < 1e-6


def test_small_and_double_products_stay_with_the_blas() -> None:
    rows = LARGE // (64 * 64)
    assert is_large(torch.ones(rows, 64), torch.ones(64, 64))
    assert not is_large(torch.ones(rows - 1, 64), torch.ones(64, 64))
    assert not is_large(torch.ones(rows, 64).double(), torch.ones(64, 64).double())


def test_the_choice_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    monkeypatch.setattr(products, "product", lambda library: lambda x, w, b: x)
    for maker, chosen in {"AuthenticAMD": "onednn", "GenuineIntel": "blas"}.items():
        monkeypatch.setattr(products, "_vendor", lambda maker=maker: maker)
        assert best_library("cpu")[0] == chosen
    assert best_library("cuda:0")[0] == "blas"
    monkeypatch.setattr(products, "_vendor", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    assert best_library("cpu")[0] == "blas"
