"""Tests of nonlinear conjugate gradients against the linear method and SciPy, and the contract of all optimizers."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from tests.support.descents import Descent, Quadratic, logistic
from tests.support.optimizer_contract import Case, Contract
from tests.support.smooth import rosenbrock

import descend
from descend.errors import UserError
from descend.linalg import conjugate_gradient
from descend.optim import CG, cg

CASES = [
    Case("cg", lr=0.1, evaluations=None, needs_closure=True, separable=False),
    Case("cg", {"max_iter": 3, "restart_threshold": 0.5}, lr=1.0, evaluations=None, needs_closure=True, separable=False),
]  # fmt: skip

EXACT = {"c2": 1e-10, "c1": 1e-6}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract; the state is one vector and one number."""


@pytest.mark.parametrize("n", [1, 2, 4, 8])
def test_a_quadratic_of_n_variables_takes_n_exact_steps(n):
    quadratic = Quadratic([2.0**k for k in range(n)])
    descent = Descent(cg, quadratic, [0.0] * n, **EXACT)
    descent.step(n)
    assert float((descent.at - quadratic.least).norm()) < 1e-6 * float(quadratic.least.norm())
    if n > 1:  # and not fewer
        fewer = Descent(cg, quadratic, [0.0] * n, **EXACT)
        fewer.step(n - 1)
        assert float((fewer.at - quadratic.least).norm()) > 1e-3 * float(quadratic.least.norm())


def test_its_iterates_are_those_of_linear_conjugate_gradients():
    quadratic = Quadratic([1.0, 3.0, 4.0, 10.0, 30.0, 100.0])
    descent = Descent(cg, quadratic, [0.0] * 6, **EXACT)
    for count in range(1, 6):
        descent.step()
        expected = conjugate_gradient(lambda v: quadratic.a @ v, -quadratic.b, max_iter=count, tolerance=0.0)
        torch.testing.assert_close(descent.at, expected.step, rtol=1e-6, atol=1e-8)


def test_steepest_descent_takes_other_steps():
    """Control: with a restart at every step the iterates differ."""
    quadratic = Quadratic([1.0, 3.0, 4.0, 10.0, 30.0, 100.0])
    descent = Descent(cg, quadratic, [0.0] * 6, restart_threshold=1e-300, **EXACT)
    descent.step(6)
    assert float((descent.at - quadratic.least).norm()) > 0.05 * float(quadratic.least.norm())


@pytest.mark.parametrize("name", ["rosenbrock", "logistic"])
def test_reaches_scipys_minimum_with_as_many_evaluations(name):
    if name == "rosenbrock":
        start, loss = [-1.2, 1.0], rosenbrock

        def both(x):
            return (scipy.optimize.rosen(x), scipy.optimize.rosen_der(x))

    else:
        loss, both = logistic()
        start = [0.0] * 8
    expected = scipy.optimize.minimize(both, np.array(start), jac=True, method="CG", options={"gtol": 1e-7})
    descent = Descent(cg, loss, start, max_iter=2 * expected.nit + 10)
    descent.step()
    assert descent.value == pytest.approx(expected.fun, abs=1e-11)
    assert descent.at.tolist() == pytest.approx(expected.x.tolist(), abs=1e-4)
    short = Descent(cg, loss, start, max_iter=expected.nit)
    short.step()
    assert short.value - expected.fun < 1e-3 * (float(loss(torch.tensor(start).double())) - expected.fun)
    assert short.evaluations < 2 * expected.nfev


def test_never_ascends():
    descent = Descent(cg, rosenbrock, [-1.2, 1.0])
    values = [descent.step() for _ in range(60)]
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[-1] < 1e-8


def test_beta_is_polak_and_ribieres_of_gradients_of_the_same_rows():
    """The rows change after the first step; the carried direction depends only on the first rows."""
    first, second = Quadratic([1.0, 5.0, 9.0]), Quadratic([2.0, 3.0, 7.0], seed=4)
    descent = Descent(cg, first, [1.0, -1.0, 0.5], c2=0.4, restart_threshold=1e9)
    x = descent.at
    descent.step()
    before, after = first.gradient(x), first.gradient(descent.at)
    beta = max(0.0, float(after @ (after - before) / (before @ before)))
    torch.testing.assert_close(descent.state["carried"], -beta * before, rtol=1e-9, atol=1e-12)
    descent.function, x = second, descent.at
    carried = descent.state["carried"].clone()
    descent.step()
    direction = carried - second.gradient(x)
    assert float(direction @ second.gradient(x)) < 0
    moved = descent.at - x
    assert float(moved @ direction) == pytest.approx(float(moved.norm() * direction.norm()), rel=1e-12)


def test_an_ascent_direction_is_replaced():
    quadratic = Quadratic([1.0, 4.0])
    descent = Descent(cg, quadratic, [1.0, 2.0])
    descent.step()
    descent.state["carried"] = 1e3 * quadratic.gradient(descent.at)
    x, before = descent.at, descent.value
    descent.step()
    gradient, moved = quadratic.gradient(x), descent.at - x
    assert descent.value < before
    assert float(moved @ gradient) == pytest.approx(-float(moved.norm() * gradient.norm()), rel=1e-9)


def test_a_nan_loss_is_rejected():
    descent = Descent(cg, lambda x: (x - torch.log(x)).sum(), [8.0, 0.1], lr=100.0)
    values = [descent.step() for _ in range(25)]
    assert all(math.isfinite(value) for value in values)
    assert descent.at.tolist() == pytest.approx([1.0, 1.0], abs=1e-3)


def test_the_state_is_one_number_per_parameter():
    descent = Descent(cg, rosenbrock, [-1.2, 1.0])
    descent.step()
    assert set(descent.state) == {"carried", "fall"}
    assert descent.state["carried"].shape == (2,)
    assert type(descent.state["fall"]) is float


@pytest.mark.parametrize(
    "wrong",
    [{"lr": -1.0}, {"c1": 0.0}, {"c2": 1.0}, {"max_iter": 0}, {"restart_threshold": 0.0}],
    ids=lambda each: next(iter(each)),
)
def test_settings_outside_their_domain_are_refused(wrong):
    with pytest.raises(UserError, match=f"cg: {next(iter(wrong))}: expected"):
        cg([torch.ones(1, requires_grad=True)], **wrong)
    with pytest.raises(ValueError, match="expected"):
        CG(
            [torch.ones(1)],
            **({"lr": 1.0, "c1": 1e-4, "c2": 0.1, "restart_threshold": 0.2, "max_iter": 1} | wrong),
        )


def test_from_a_recipe_the_loss_of_all_rows_falls(tmp_path):
    recipe = descend.Recipe(
        optimizer={"name": "cg"},
        model={"name": "mlp", "hidden": [8], "dropout": 0.0},
        stop={"max_epochs": 10},
    )
    run = descend.train("iris", recipe, seed=0, out=tmp_path / "run")
    losses = [record["train"]["loss"] for record in run.history]
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.6 * losses[0]
    assert run.recipe.data["sampling"] == "full"
    assert 20 <= run.history[-1]["gradients"] < 60
