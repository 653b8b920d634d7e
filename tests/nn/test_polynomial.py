"""Polynomial regression: powers, and the normal equations of the least-squares weights."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import descend
from descend.errors import RecipeError, UserError
from descend.nn import Powers, polynomial
from descend.recipe import Recipe

X = torch.linspace(-math.pi, math.pi, 400, dtype=torch.float64)
Y = torch.sin(X)


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_the_exponents_are_one_to_the_degree(degree):
    x = torch.tensor([[2.0, -3.0], [0.0, 0.5]])
    expected = [[value**k for value in row for k in range(1, degree + 1)] for row in x.tolist()]
    assert Powers(degree)(x).tolist() == expected


def test_derivatives():
    x = torch.tensor([[0.0, -1.5], [2.0, 0.3]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(Powers(4), (x,))


@pytest.mark.parametrize("inputs", [(1,), (3,), (1, 2, 2)])
def test_shapes_and_parameters(inputs):
    model = polynomial(inputs, 2, degree=4)
    assert model(torch.zeros(5, *inputs)).shape == (5, 2)
    features = math.prod(inputs)
    assert sum(p.numel() for p in model.parameters()) == 2 * (4 * features + 1)


@pytest.mark.parametrize("degree", [1, 3, 6])
def test_the_least_squares_weights_solve_the_normal_equations(degree):
    """With the coefficients of NumPy's polyfit the model equals polyval, and the gradient of the squared error is zero."""
    coefficients = np.polyfit(X.numpy(), Y.numpy(), degree)
    model: Any = polynomial((1,), 1, degree=degree).double()
    with torch.no_grad():
        model.output.bias.fill_(coefficients[-1])
        model.output.weight.copy_(torch.tensor(coefficients[-2::-1].copy()))
    residual = model(X[:, None])[:, 0] - Y
    np.testing.assert_allclose(
        (residual + Y).detach(), np.polyval(coefficients, X.numpy()), rtol=1e-10, atol=1e-10
    )
    residual.square().sum().backward()
    powers = torch.stack([X**k for k in range(degree + 1)], 1)
    scale = powers.norm(dim=0) * Y.norm()  # the magnitude of the terms that cancel
    gradient = torch.cat([model.output.bias.grad, model.output.weight.grad[0]])
    assert (gradient.abs() < 1e-9 * scale).all()


def test_the_degree_is_checked():
    with pytest.raises(UserError, match="expected a degree >= 1, got 0"):
        Powers(0)
    with pytest.raises(RecipeError, match=r"\[model\] degree: expected an integer >= 1, got 0"):
        Recipe(model={"name": "polynomial", "degree": 0})


@pytest.mark.parametrize("degree", [1, 3, 5])
def test_a_recipe_trains_it_to_the_least_squares_fit(degree):
    """With full batches and L-BFGS the predictions are those of polyfit on the training rows."""
    x, y = X.numpy()[:, None], Y.numpy()
    recipe = {
        "data": {"sampling": "full", "validation": 0.0, "clip": "none"},
        "model": {"name": "polynomial", "degree": degree},
        "optimizer": {"name": "torch.optim.LBFGS", "lr": 1.0, "max_iter": 50, "line_search_fn": "strong_wolfe"},
        "regularize": {"weight_decay": 0.0},
        "schedule": {"name": "constant", "warmup": 0.0},
        "stop": {"max_epochs": 40, "average": 0.0},
        "engine": {"threads": 1, "device": "cpu"},
    }  # fmt: skip
    run = descend.train((x, y), recipe, seed=0)
    assert isinstance(run.model[-1], nn.Linear)
    train = np.isin(np.arange(len(x)), training_rows(x, y, recipe))
    expected = np.polyval(np.polyfit(x[train, 0], y[train], degree), x[:, 0])
    np.testing.assert_allclose(run.predict(x), expected, atol=2e-3)


def training_rows(x, y, recipe):
    from descend.runs.plan import plan_run

    return plan_run((x, y), recipe, seed=0).prepared.train.rows
