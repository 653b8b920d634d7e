"""The proximal step of the l1 penalty against scikit-learn's lasso, and its exact zeros."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Lasso
from torch import nn

import descend
from descend.errors import RecipeError, UserError
from descend.optim import OPTIMIZERS
from descend.optim.lean import lean_step
from descend.regularization import l1_penalty, l1_prox, soft_threshold


@given(st.floats(-5, 5), st.floats(0, 3))
def test_soft_threshold_is_the_proximal_map(value: float, threshold: float) -> None:
    """It minimizes (w - v)²/2 + t|w|: no other point is better."""
    point = soft_threshold(torch.tensor([value], dtype=torch.float64), threshold)

    def objective(w: torch.Tensor) -> torch.Tensor:
        return (w - value).square() / 2 + threshold * w.abs()

    grid = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    assert objective(point) <= objective(grid).min() + 1e-12


def problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 12))
    return x, x[:, 0] * 2 - x[:, 3] + 0.3 * rng.normal(size=80)


def test_proximal_gradient_descent_converges_to_the_lasso() -> None:
    x, y = problem()
    alpha = 0.2
    lasso = Lasso(alpha=alpha, fit_intercept=True, tol=1e-12, max_iter=100_000).fit(x, y)
    model = nn.Linear(12, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
    # scikit-learn has a factor of 1/2 in front of the mean squared error.
    l1_prox(optimizer, [model.weight], 2 * alpha)
    rows, targets = torch.from_numpy(x), torch.from_numpy(y)
    for _ in range(400):
        optimizer.zero_grad()
        (model(rows)[:, 0] - targets).square().mean().backward()
        optimizer.step()
    weight = model.weight.detach().numpy()[0]
    np.testing.assert_allclose(weight, lasso.coef_, atol=1e-8)
    assert ((weight == 0) == (lasso.coef_ == 0)).all()
    assert 0 < (weight == 0).sum() < 12
    np.testing.assert_allclose(model.bias.item(), lasso.intercept_, atol=1e-8)


def test_the_penalty_without_the_proximal_step_yields_no_zeros() -> None:
    x, y = problem()
    model = nn.Linear(12, 1).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        loss = (model(torch.from_numpy(x))[:, 0] - torch.from_numpy(y)).square().mean()
        (loss + 0.4 * l1_penalty([model.weight])).backward()
        optimizer.step()
    assert (model.weight != 0).all()


def test_the_threshold_follows_the_learning_rate_and_spares_other_parameters() -> None:
    weight, bias = nn.Parameter(torch.full((3,), 2.0)), nn.Parameter(torch.full((3,), 2.0))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.5}, {"params": [bias], "lr": 0.5}])
    handle = l1_prox(optimizer, [weight], 1.0)

    def closure() -> torch.Tensor:
        weight.grad, bias.grad = torch.zeros(3), torch.zeros(3)
        return torch.zeros(())

    lean_step(optimizer)(closure)
    optimizer.param_groups[0]["lr"] = 0.25
    optimizer.step()
    assert weight.tolist() == [1.25] * 3
    assert bias.tolist() == [2.0] * 3
    handle.remove()
    optimizer.step()
    assert weight.tolist() == [1.25] * 3


def test_invalid_arguments() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    with pytest.raises(UserError, match="l1_prox must be at least 0"):
        l1_prox(optimizer, [weight], -1.0)
    with pytest.raises(UserError, match="not among the optimizer's"):
        l1_prox(optimizer, [nn.Parameter(torch.ones(1))], 1.0)


@pytest.mark.parametrize(
    "name",
    [
        "gd",
        "cg",
        "bfgs",
        "lbfgs",
        "coordinate_descent",
        "newton",
        "subsampled_newton",
        "trust_region",
        "stron",
        "trish",
        "sqn",
    ],
)
def test_optimizers_whose_steps_are_not_those_of_the_learning_rate_are_refused(name):
    """Their solution would be that of another strength, which depends on the step sizes."""
    w = nn.Parameter(torch.ones(2, 2))
    optimizer = OPTIMIZERS[name]([w])
    with pytest.raises(UserError, match=f"a step of {name} is not a known multiple of the gradient"):
        l1_prox(optimizer, [w], 0.1)
    l1_prox(optimizer, [w], 0.0)
    recipe = {"optimizer": name, "regularize": {"l1_prox": 0.2}, "stop": {"max_epochs": 1}}
    with pytest.raises(RecipeError, match=r"l1_prox"):
        descend.train("diabetes", recipe)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.9}),
        ("sgd", {"momentum": 0.9, "nesterov": True}),
        ("sgd", {"momentum": 0.8, "dampening": 0.5}),
        ("heavy_ball", {}),
        ("nesterov", {}),
        ("asc_pg", {}),
        ("scgd", {}),
        ("cayley_sgd", {"momentum": 0.5}),
        ("cayley_adam", {}),
        ("adam", {}),
        ("adam", {"amsgrad": True}),
        ("adamw", {"weight_decay": 0.0}),
        ("adamax", {}),
        ("rmsprop", {}),
        ("rmsprop", {"momentum": 0.5}),
    ],
)
def test_proximal_gradient_methods_solve_the_lasso(name, settings):
    """min ½ (a − 0.05)² + 5 (b − 1)² + 0.1 (|a| + |b|) has a = 0 and b = 1 − 0.1/10."""
    w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    h, c = torch.tensor([1.0, 10.0], dtype=torch.float64), torch.tensor([0.05, 1.0], dtype=torch.float64)
    optimizer = OPTIMIZERS[name]([w], lr=0.02, **settings)
    l1_prox(optimizer, [w], 0.1)

    def closure():
        optimizer.zero_grad()
        loss = (h * (w - c) ** 2).sum() / 2
        loss.backward()
        return loss

    for _ in range(1500):
        optimizer.step(closure)
    assert w[0].item() == 0.0
    assert w[1].item() == pytest.approx(0.99, abs=1e-6)


def test_a_weight_without_gradient_shrinks_by_the_learning_rate():
    """With Adam the threshold would be infinite for it, and the weights before a layer of zeros would be lost at once."""
    w = nn.Parameter(torch.tensor([1.0, -0.25], dtype=torch.float64))
    optimizer = OPTIMIZERS["adam"]([w], lr=0.1)
    l1_prox(optimizer, [w], 0.5)
    for expected in ([0.9, -0.15], [0.8, -0.05], [0.7, 0.0]):
        w.grad = torch.zeros_like(w)
        optimizer.step()
        torch.testing.assert_close(w.detach(), torch.tensor(expected, dtype=torch.float64))
