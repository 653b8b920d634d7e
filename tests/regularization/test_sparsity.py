"""The proximal step of the l1 penalty against scikit-learn's lasso, and its exact zeros."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Lasso
from torch import nn

from descend.errors import UserError
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
