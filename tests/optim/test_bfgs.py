"""Tests of BFGS against SciPy and against the exact inverse Hessian, and the contract of all optimizers."""

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
from descend.errors import RecipeError, UserError
from descend.optim import BFGS, bfgs
from descend.optim._bfgs import MAX_PARAMETERS

CASES = [
    Case("bfgs", lr=0.1, evaluations=None, needs_closure=True, separable=False),
    Case("bfgs", {"max_iter": 3, "c2": 0.3}, lr=1.0, evaluations=None, needs_closure=True, separable=False),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract; the state is one matrix."""


def test_takes_the_steps_of_scipy_on_rosenbrock():
    expected = scipy.optimize.minimize(
        scipy.optimize.rosen, [-1.2, 1.0], jac=scipy.optimize.rosen_der, method="BFGS", options={"gtol": 1e-8}
    )
    descent = Descent(bfgs, rosenbrock, [-1.2, 1.0], max_iter=expected.nit + 10)
    descent.step()
    assert descent.value < 1e-15
    assert descent.at.tolist() == pytest.approx([1.0, 1.0], abs=1e-7)
    assert descent.evaluations < 1.5 * expected.nfev


def test_finds_scipys_minimum_of_logistic_regression():
    loss, both = logistic()
    expected = scipy.optimize.minimize(both, np.zeros(8), jac=True, method="BFGS", options={"gtol": 1e-10})
    descent = Descent(bfgs, loss, [0.0] * 8)
    while descent.value - expected.fun > 1e-12 and descent.evaluations < 2 * expected.nfev + expected.nit:
        descent.step()
    descent.step()
    assert descent.value == pytest.approx(expected.fun, abs=1e-12)
    assert descent.at.tolist() == pytest.approx(expected.x.tolist(), abs=1e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 9])
def test_on_a_quadratic_the_matrix_is_the_inverse_after_n_exact_steps(n):
    quadratic = Quadratic([1.5**k for k in range(n)])
    descent = Descent(bfgs, quadratic, [0.0] * n, c2=1e-12, c1=1e-6)
    descent.step(n)
    assert float((descent.at - quadratic.least).abs().max()) < 1e-8
    torch.testing.assert_close(descent.state["inverse"], torch.linalg.inv(quadratic.a), rtol=1e-5, atol=1e-6)


def test_the_matrix_is_symmetric_and_maps_the_newest_change_to_its_step():
    descent, xs = Descent(bfgs, rosenbrock, [-1.2, 1.0]), []
    for _ in range(12):
        xs.append(descent.at)
        descent.step()
        h = descent.state["inverse"]
        torch.testing.assert_close(h, h.T, rtol=1e-10, atol=1e-14)
        assert torch.linalg.eigvalsh(h).min() > 0
        gradient = [torch.tensor(scipy.optimize.rosen_der(x.numpy())) for x in (xs[-1], descent.at)]
        torch.testing.assert_close(h @ (gradient[1] - gradient[0]), descent.at - xs[-1], rtol=1e-6, atol=1e-9)


def test_is_superlinear():
    descent = Descent(bfgs, rosenbrock, [-1.2, 1.0])
    errors = []
    for _ in range(45):
        descent.step()
        errors.append(float((descent.at - 1).norm()))
    small = [(a, b) for a, b in itertools.pairwise(errors) if 1e-12 < a < 1e-2]
    assert small[-1][1] / small[-1][0] < 0.1


def test_iterations_on_the_same_rows_are_steps_with_fewer_evaluations():
    one, many = Descent(bfgs, rosenbrock, [-1.2, 1.0]), Descent(bfgs, rosenbrock, [-1.2, 1.0], max_iter=8)
    one.step(8)
    many.step()
    assert torch.equal(one.at, many.at)
    assert one.evaluations == many.evaluations + 7


def test_a_nan_loss_is_rejected():
    descent = Descent(bfgs, lambda x: (x - torch.log(x)).sum(), [8.0, 0.1], lr=100.0)
    values = [descent.step() for _ in range(12)]
    assert all(math.isfinite(value) for value in values)
    assert descent.at.tolist() == pytest.approx([1.0, 1.0], abs=1e-4)


def test_a_nan_slope_is_rejected_even_if_the_loss_is_finite():

    def loss(x):
        return (torch.where(x < 1, 0.0 * torch.sqrt(1 - x), 0.0) - x).sum()

    descent = Descent(bfgs, loss, [0.0])
    descent.step()
    assert 0.5 <= descent.at.item() < 1


def test_there_is_no_step_from_a_nan_gradient():
    descent = Descent(bfgs, lambda x: (x * torch.nan).sum(), [2.0])
    descent.step()
    assert descent.at.tolist() == [2.0]


def test_a_pair_without_curvature_is_not_used():
    descent = Descent(bfgs, lambda x: -x.sum(), [0.0, 0.0])
    descent.step()
    assert "inverse" not in descent.state
    assert descent.at.isfinite().all()


def test_at_a_minimum_nothing_moves():
    quadratic = Quadratic([1.0, 3.0])
    descent = Descent(bfgs, quadratic, quadratic.least.tolist())
    descent.step(3)
    assert float((descent.at - quadratic.least).abs().max()) < 1e-14


def test_learning_rates_of_groups_are_a_change_of_variables():
    """With learning rates 1/4 and 1, F(x, z) is minimized like F(u/2, z) with one learning rate for u and z."""
    quadratic = Quadratic([1.0, 7.0])
    x, u, z, v = (
        torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in (0.3, 0.6, 0.2, 0.2)
    )
    apart = bfgs([{"params": [x], "lr": 0.25}, {"params": [z], "lr": 1.0}])
    scaled = bfgs([u, v])
    for _ in range(4):
        apart.step(lambda: quadratic(torch.stack([x, z])))
        scaled.step(lambda: quadratic(torch.stack([u / 2, v])))
        assert (x.item(), z.item()) == pytest.approx((u.item() / 2, v.item()), rel=1e-10)


def test_too_many_parameters_are_refused_at_construction():
    with pytest.raises(UserError, match=r"bfgs: .*5,000.*5,001.*lbfgs"):
        bfgs([torch.zeros(MAX_PARAMETERS + 1, requires_grad=True)])
    optimizer = bfgs([torch.zeros(MAX_PARAMETERS, requires_grad=True)])
    with pytest.raises(ValueError, match="lbfgs"):
        optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)]})
    assert len(optimizer.param_groups) == 1


def test_the_state_is_n_numbers_per_parameter():
    descent = Descent(bfgs, Quadratic([1.0] * 6), [0.0] * 6)
    descent.step()
    assert {name: tuple(each.shape) for name, each in descent.state.items()} == {"inverse": (6, 6)}


@pytest.mark.parametrize(
    "wrong", [{"lr": -1.0}, {"c1": 0.0}, {"c2": 1.0}, {"max_iter": 0}], ids=lambda each: next(iter(each))
)
def test_settings_outside_their_domain_are_refused(wrong):
    with pytest.raises(UserError, match=f"bfgs: {next(iter(wrong))}: expected"):
        bfgs([torch.ones(1, requires_grad=True)], **wrong)


class TestFromARecipe:
    def test_the_default_network_fits_its_matrix(self, tmp_path):
        recipe = descend.Recipe(
            model={"dropout": 0.0}, optimizer={"name": "bfgs"}, stop={"max_epochs": 12, "patience": None}
        )
        run = descend.train("iris", recipe, seed=0, out=tmp_path / "run")
        losses = [record["train"]["loss"] for record in run.history]
        assert all(after <= before for before, after in itertools.pairwise(losses))
        assert losses[-1] < 0.7 * losses[0]
        assert run.recipe.data["sampling"] == "full"
        assert tuple(run.recipe.model["hidden"]) == (32,)

    def test_a_large_network_is_an_error_of_the_recipe(self, tmp_path):
        recipe = descend.Recipe(optimizer={"name": "bfgs"}, model={"name": "mlp", "hidden": [256, 256]})
        with pytest.raises(RecipeError, match="lbfgs"):
            descend.train("digits", recipe, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_the_class_works_in_a_plain_loop():
    x = torch.ones(2, requires_grad=True)
    optimizer = BFGS([x], lr=1.0, c1=1e-4, c2=0.9, max_iter=5)
    optimizer.step(lambda: (x * x).sum())
    assert x.abs().max() < 1e-3
