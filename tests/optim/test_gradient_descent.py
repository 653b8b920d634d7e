"""Tests of backtracking against its theorem, scalar arithmetic and SciPy, and the contract of all optimizers."""

import itertools
import math

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from tests.support.examples import examples
from tests.support.optimizer_contract import Case, Contract
from tests.support.smooth import rosenbrock

import descend
from descend.errors import UserError
from descend.many.pack.optimizer import optimizer_cannot_be_packed_because
from descend.optim import gd

CASES = [
    Case("gd", lr=0.01, evaluations=None, needs_closure=True, separable=False, stateful=False),
    Case(
        "gd", {"c1": 0.3, "rho": 0.8}, lr=1.0, evaluations=None, needs_closure=True, separable=False, stateful=False
    ),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract, without a state."""


class Descent:
    """A function of one float64 vector, its evaluations, and gd on it."""

    def __init__(self, function, start, **chosen):
        self.x = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        self.function, self.evaluated = function, []
        self.optimizer = gd([self.x], **chosen)

    def closure(self):
        self.optimizer.zero_grad()
        loss = self.function(self.x)
        loss.backward()
        self.evaluated.append(self.x.tolist())
        return loss

    def step(self):
        return self.optimizer.step(self.closure).item()

    def value(self):
        return float(self.function(self.x.detach()))


CURVATURES = st.lists(st.floats(0.01, 100), min_size=1, max_size=6)
SHARES = st.floats(0.05, 0.9)


@settings(deadline=None, max_examples=examples(60))
@given(CURVATURES, st.floats(1e-3, 100), SHARES, SHARES)
def test_the_step_is_the_first_accepted_and_as_long_as_the_theorem_requires(curvatures, first, c, rho):
    h = torch.tensor(curvatures, dtype=torch.float64)

    def f(x):
        return (h * x * x).sum() / 2

    descent = Descent(f, [1.0] * len(curvatures), lr=first, c1=c, rho=rho)
    before = descent.step()
    start, gradient = torch.ones_like(h), h
    t = float((start - descent.x.detach()) @ gradient / (gradient @ gradient))
    assert t >= min(first, 2 * rho * (1 - c) / max(curvatures)) * (1 - 1e-9)
    assert descent.value() <= before - c * t * float(gradient @ gradient) * (1 - 1e-9)
    if t < first * (1 - 1e-9):  # the previous t fails Armijo's condition
        longer = t / rho
        assert float(f(start - longer * gradient)) > before - c * longer * float(gradient @ gradient) * (
            1 + 1e-9
        )


def test_equals_the_textbook_algorithm_on_a_nonconvex_function():
    descent = Descent(rosenbrock, [-1.2, 1.0], lr=1.0, c1=1e-4, rho=0.5)
    x = np.array([-1.2, 1.0])
    for _ in range(30):
        descent.step()
        value, slope = scipy.optimize.rosen(x), scipy.optimize.rosen_der(x)
        t = 1.0
        while scipy.optimize.rosen(x - t * slope) > value - 1e-4 * t * slope @ slope:
            t /= 2
        x = x - t * slope
        assert descent.x.tolist() == pytest.approx(x.tolist(), rel=1e-8)
    assert len(descent.evaluated) > 200


@pytest.mark.slow
def test_never_ascends():
    descent = Descent(rosenbrock, [-1.2, 1.0])
    values = [descent.step() for _ in range(300)]
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[-1] < 0.5 * values[1]


@pytest.mark.slow
def test_finds_scipys_minimum_of_logistic_regression():
    rows, labels = load_breast_cancer(return_X_y=True)
    x = torch.tensor((rows - rows.mean(0)) / rows.std(0))[:, :8]
    y = torch.tensor(labels, dtype=torch.float64)

    def loss(w):
        return torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y) + 0.05 * w @ w

    def both(w):
        at = torch.tensor(w, requires_grad=True)
        value = loss(at)
        value.backward()
        return value.item(), at.grad.numpy()

    expected = scipy.optimize.minimize(both, np.zeros(8), jac=True, method="BFGS", options={"gtol": 1e-10})
    descent = Descent(loss, [0.0] * 8, lr=4.0)
    for _ in range(200):
        descent.step()
    assert descent.value() == pytest.approx(expected.fun, abs=1e-12)
    assert descent.x.tolist() == pytest.approx(expected.x.tolist(), abs=1e-6)


def test_a_nan_loss_is_not_a_decrease():
    descent = Descent(lambda x: x - torch.log(x), 8.0, lr=100.0)  # x - t 7/8 < 0 at first: NaN
    descent.step()
    assert 0 < descent.x.item() < 8
    assert math.isfinite(descent.value())


def test_the_parameters_stay_where_no_step_lowers_the_loss():
    descent = Descent(lambda x: x * 0 + 1 + (x - x.detach()), 2.0)  # a slope without a decrease
    descent.step()
    assert descent.x.item() == 2.0
    assert 50 < len(descent.evaluated) < 200


def test_a_failing_evaluation_restores_the_start():
    descent = Descent(lambda x: (x * x).sum(), [3.0])

    def closure():
        if descent.evaluated:
            raise KeyboardInterrupt
        return descent.closure()

    with pytest.raises(KeyboardInterrupt):
        descent.optimizer.step(closure)
    assert descent.x.tolist() == [3.0]


def test_steps_of_groups_are_shortened_together():
    a, b = (torch.ones((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = gd([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 0.1}])

    def closure():
        optimizer.zero_grad()
        loss = 8 * a * a / 2 + b * b / 2
        loss.backward()
        return loss

    optimizer.step(closure)
    shares = (1 - a.item()) / 8, (1 - b.item()) / 0.1
    assert shares[0] == pytest.approx(shares[1])
    assert shares[0] in (0.125, 0.25)


@pytest.mark.parametrize("wrong", [{"c1": 0.0}, {"c1": 1.0}, {"rho": 1.0}, {"rho": 0.0}, {"lr": -1.0}])
def test_settings_outside_their_domain_are_refused(wrong):
    with pytest.raises(UserError, match=f"gd: {next(iter(wrong))}: expected"):
        gd([torch.ones(1, requires_grad=True)], **wrong)


def test_sparse_gradients_are_refused():
    table = torch.nn.Embedding(3, 1, sparse=True)
    optimizer = gd(table.parameters())

    def closure():
        loss = table(torch.tensor([1])).sum()
        loss.backward()
        return loss

    with pytest.raises(UserError, match="sparse_adam"):
        optimizer.step(closure)


class TestFromARecipe:
    def recipe(self, **changes):
        return descend.Recipe(
            data={"sampling": "full"},
            model={"name": "mlp", "hidden": [8], "dropout": 0.0},
            optimizer={"name": "gd"},
            stop={"max_epochs": 12, "average": 0.0, "patience": None},
            **changes,
        )

    def test_the_loss_of_all_rows_never_increases(self, tmp_path):
        run = descend.train("iris", self.recipe(), seed=0, out=tmp_path / "run")
        losses = [record["train"]["loss"] for record in run.history]
        assert all(after <= before for before, after in itertools.pairwise(losses))
        assert losses[-1] < 0.9 * losses[0]
        assert run.recipe.optimizer["lr"] == 1.0

    def test_it_is_not_packed(self):
        assert "no packed form" in optimizer_cannot_be_packed_because(gd([torch.ones(1, requires_grad=True)]))
