"""Tests of coordinate descent against the Gauss-Seidel method, and the contract of all optimizers."""

import itertools
import math
from typing import Any

import pytest
import torch
from tests.support.descents import Descent, Quadratic, logistic
from tests.support.optimizer_contract import Case, Contract
from tests.support.smooth import rosenbrock

import descend
from descend.errors import UserError
from descend.optim import CoordinateDescent, coordinate_descent

CASES = [
    Case("coordinate_descent", lr=0.05, evaluations=None, needs_closure=True, separable=False),
    Case(
        "coordinate_descent",
        {"block_size": 5, "line_search": "exact", "selection": "random"},
        lr=0.1,
        evaluations=None,
        needs_closure=True,
        separable=False,
    ),
]

SINGLE = {"block_size": 1, "line_search": "exact", "c2": 1e-10, "c1": 1e-6}


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """The contract; the state is one number per block."""


def sweep(a, b, x, order):
    """Gauss-Seidel: each coordinate solves its own equation with the current values of the others."""
    x = x.clone()
    for i in order:
        x[i] = (b[i] - a[i] @ x + a[i, i] * x[i]) / a[i, i]
    return x


def test_single_entries_with_exact_steps_are_gauss_seidel():
    quadratic = Quadratic([0.5, 1.0, 2.0, 5.0, 9.0])
    descent, x = Descent(coordinate_descent, quadratic, [0.0] * 5, **SINGLE), torch.zeros(5).double()
    for _ in range(8):
        descent.step()
        x = sweep(quadratic.a, quadratic.b, x, range(5))
        torch.testing.assert_close(descent.at, x, rtol=1e-7, atol=1e-8)
    backwards = sweep(quadratic.a, quadratic.b, torch.zeros(5).double(), reversed(range(5)))
    first = Descent(coordinate_descent, quadratic, [0.0] * 5, **SINGLE)
    first.step()
    assert float((first.at - backwards).norm()) > 0.01  # control: the order makes a difference


def test_a_random_order_is_a_function_of_seed_and_sweep():
    quadratic = Quadratic([0.5, 1.0, 2.0, 5.0, 9.0])
    runs: dict[int, torch.Tensor] = {}
    for seed in (0, 0, 1):
        descent = Descent(coordinate_descent, quadratic, [0.0] * 5, selection="random", seed=seed, **SINGLE)
        torch.manual_seed(len(runs))
        descent.step(3)
        assert torch.equal(runs.setdefault(seed, descent.at), descent.at)
    assert not torch.equal(runs[0], runs[1])
    order = [CoordinateDescent.order("random", 5, seed=0, sweep=each) for each in range(20)]
    assert all(sorted(each) == [0, 1, 2, 3, 4] for each in order)
    assert len({tuple(each) for each in order}) > 10
    x = torch.zeros(5).double()
    for each in order[:3]:
        x = sweep(quadratic.a, quadratic.b, x, each)
    torch.testing.assert_close(runs[0], x, rtol=1e-7, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("search", ["armijo", "exact"])
@pytest.mark.parametrize("size", [None, 1])
def test_never_ascends(search, size):
    descent = Descent(coordinate_descent, rosenbrock, [-1.2, 1.0], line_search=search, block_size=size)
    values = [descent.step() for _ in range(60)]
    assert all(after <= before for before, after in itertools.pairwise(values))
    assert values[-1] < 0.98 * values[1]


@pytest.mark.slow
def test_finds_the_minimum_of_logistic_regression():
    loss, _ = logistic()
    best = Descent(descend.optim.bfgs, loss, [0.0] * 8, max_iter=60)
    best.step()
    descent = Descent(coordinate_descent, loss, [0.0] * 8, block_size=1, line_search="exact")
    descent.step(40)  # 20 arrive, and at the minimum the searches are slow
    assert descent.value == pytest.approx(best.value, abs=1e-6)


def test_blocks_are_tensors_or_runs_of_their_entries():
    tensors = [torch.zeros(shape, requires_grad=True) for shape in ((2, 3), (2,), ())]

    def blocks(size):
        return coordinate_descent(tensors, block_size=size).blocks()

    assert blocks(None) == [slice(0, 6), slice(6, 8), slice(8, 9)]
    assert blocks(4) == [slice(0, 4), slice(4, 6), slice(6, 8), slice(8, 9)]
    assert blocks(1) == [slice(at, at + 1) for at in range(9)]


def test_each_block_has_its_own_step_size():
    w, z = (torch.ones(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = coordinate_descent([w, z])
    for _ in range(6):
        optimizer.step(lambda: (100 * w * w / 2 + z * z / 200).sum())
    steep, flat = optimizer.state[w]["lengths"].tolist()
    assert steep <= 0.02
    assert flat > 10
    assert optimizer.state[w]["lengths"].dtype == torch.float64


def test_with_armijos_condition_no_block_steps_beyond_its_minimum():
    """On c x²/2 a step of t has the share 1 - c t/2 of the predicted decrease, so that 1/2 means t ≤ 1/c."""
    curvatures = [0.3, 1.0, 7.0, 90.0]
    signs: dict[float | None, list[Any]] = {}
    for c1 in (None, 1e-4):

        def loss(x):
            return (torch.tensor(curvatures).double() * x**2 / 2).sum()

        descent = Descent(coordinate_descent, loss, [1.0] * 4, block_size=1, c1=c1)
        signs[c1] = []
        for _ in range(6):
            descent.step()
            signs[c1].append(bool((descent.at >= 0).all()))
    assert all(signs[None])
    assert not all(signs[1e-4])  # control: these steps do


@pytest.mark.slow
def test_a_nan_loss_is_rejected():
    descent = Descent(
        coordinate_descent, lambda x: (x - torch.log(x)).sum(), [8.0, 0.1], lr=100.0, block_size=1
    )
    values = [descent.step() for _ in range(40)]
    assert all(math.isfinite(value) for value in values)
    assert descent.at.tolist() == pytest.approx([1.0, 1.0], abs=1e-2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"lr": -1.0},
        {"c1": 0.0},
        {"c2": 1.0},
        {"block_size": 0},
        {"line_search": "best"},
        {"selection": "any"},
    ],
    ids=str,
)
def test_settings_outside_their_domain_are_refused(wrong):
    with pytest.raises(UserError, match=rf"coordinate_descent: {next(iter(wrong))}: expected"):
        coordinate_descent([torch.ones(1, requires_grad=True)], **wrong)


def test_from_a_recipe_the_loss_of_all_rows_falls(tmp_path):
    recipe = descend.Recipe(
        optimizer={"name": "coordinate_descent"},
        model={"name": "mlp", "hidden": [8], "dropout": 0.0},
        stop={"max_epochs": 8},
    )
    run = descend.train("iris", recipe, seed=0, out=tmp_path / "run")
    losses = [record["train"]["loss"] for record in run.history]
    assert all(after <= before for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.8 * losses[0]
