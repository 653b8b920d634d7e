"""Subsampled Newton against Newton's method, dense algebra and its theorems."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.optimizer_contract import Case, Contract
from tests.support.smooth import Logistic
from torch import nn
from torch.nn import functional as F

import descend
from descend.errors import UserError
from descend.optim import Rows, SubsampledNewton, newton, subsampled_newton

OF_ALL = {
    "evaluations": None,
    "needs_closure": True,
    "separable": False,
    "graph": True,
    "needed": {"sample_fraction": 1.0},
}
CASES = [
    Case("subsampled_newton", lr=0.5, stateful=False, **OF_ALL),
    Case("subsampled_newton", {"damping": 0.0, "cg_tolerance": 0.5}, lr=0.5, stateful=False, **OF_ALL),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """It keeps the contract, and has no state while the fraction is constant."""


def test_with_all_rows_it_is_newtons():
    paths: list[list[Any]] = []
    for make in (newton, lambda p: subsampled_newton(p, sample_fraction=1.0, damping=0.0, cg_tolerance=0.5)):
        problem = Logistic()
        optimizer = make(problem.model.parameters())
        paths.append([])
        for _ in range(5):
            optimizer.step(problem.rows())
            paths[-1].append(problem.weights.tolist())
    assert paths[0] == paths[1]


def test_the_step_has_the_curvature_of_the_sample_and_the_gradient_of_all_rows(monkeypatch):
    problem, samples = Logistic(), []
    part = Rows.part
    monkeypatch.setattr(
        Rows,
        "part",
        lambda self, *args, **kwargs: samples.append(part(self, *args, **kwargs)) or samples[-1],
    )
    optimizer = subsampled_newton(
        problem.model.parameters(), sample_fraction=0.2, damping=0.0, cg_tolerance=0.0, cg_max_iter=50
    )
    slope = problem.at(np.zeros(6))[1]
    optimizer.step(problem.rows())
    (sample,) = samples
    assert len(sample.inputs) == math.ceil(0.2 * 569)
    problem.x, problem.y = sample.inputs, sample.targets
    expected = np.linalg.solve(problem.at(np.zeros(6))[2], -slope)
    np.testing.assert_allclose(problem.weights.detach(), expected, rtol=1e-8)


def test_steps_are_invariant_to_a_change_of_variables():
    """X w = (X A) (A⁻¹ w): solved exactly, the iterates correspond, whatever the condition of A."""
    draw = torch.Generator().manual_seed(1)
    mix = torch.randn(6, 6, generator=draw, dtype=torch.float64)
    mix = mix @ torch.diag(torch.logspace(0, 2, 6, dtype=torch.float64))
    assert torch.linalg.cond(mix) > 100
    found: list[list[Any]] = []
    for a in (None, mix):
        problem = Logistic(mix=a)
        optimizer = subsampled_newton(
            problem.model.parameters(), sample_fraction=0.3, damping=0.0, cg_tolerance=0.0, cg_max_iter=200
        )
        torch.manual_seed(7)
        found.append([])
        for _ in range(5):
            optimizer.step(problem.rows())
            found[-1].append((problem.back @ problem.weights).tolist())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5)


def test_a_growing_sample_converges_superlinearly_and_a_constant_one_linearly():
    ratios = {}
    for growth in (1.0, 2.0):
        torch.manual_seed(0)
        problem = Logistic()
        optimizer = subsampled_newton(
            problem.model.parameters(), sample_fraction=0.2, sample_growth=growth, cg_tolerance=0.1
        )
        errors = problem.errors(optimizer, 9)
        ratios[growth] = [b / a for a, b in itertools.pairwise(errors) if a > 1e-7]
    assert all(ratio < 0.8 for ratio in ratios[1.0][2:])
    assert min(ratios[1.0]) > 0.01
    assert ratios[2.0][-1] < 0.01


@pytest.mark.parametrize("damping", [0.1, 1.0])
def test_damping_limits_the_step_in_the_null_space_of_the_sample(damping):
    """Thirty parameters and five rows: B is singular, and p = −(B + damping ‖g‖ I)⁻¹ g is at most 1/damping long."""
    draw = torch.Generator().manual_seed(0)
    model = nn.Linear(30, 1, bias=False, dtype=torch.float64)
    nn.init.zeros_(model.weight)
    x = torch.randn(50, 30, generator=draw, dtype=torch.float64)
    rows = Rows(model, F.mse_loss, x, 100.0 * torch.randn(50, 1, generator=draw, dtype=torch.float64))
    subsampled_newton(
        model.parameters(), sample_fraction=0.1, damping=damping, cg_tolerance=0.0, cg_max_iter=100
    ).step(rows)
    assert 0.5 / damping < float(model.weight.detach().norm()) <= 1 / damping * (1 + 1e-9)


def test_the_fraction_grows_and_is_part_of_the_state():
    problem = Logistic()
    optimizer = subsampled_newton(problem.model.parameters(), sample_fraction=0.2, sample_growth=2.0)
    shares = []
    for _ in range(4):
        optimizer.step(problem.rows())
        shares.append(optimizer.memory["share"])
    assert shares == pytest.approx([0.4, 0.8, 1.0, 1.0])
    assert sum(len(state) for state in optimizer.state.values()) == 1


def test_a_plain_function_is_refused():
    w = torch.ones(2, requires_grad=True)
    with pytest.raises(UserError, match="sample_fraction=1"):
        subsampled_newton([w]).step(lambda: (w * w).sum())


@pytest.mark.slow
def test_a_sample_costs_its_fraction(tmp_path):
    spent = {}
    for share in (0.1, 1.0):
        recipe = descend.Recipe(
            model={"name": "mlp", "hidden": [8], "dropout": 0.0},
            optimizer={"name": "subsampled_newton", "sample_fraction": share, "cg_max_iter": 10},
            stop={"max_epochs": 6, "patience": None},
        )
        run = descend.train("iris", recipe, seed=0, out=tmp_path / str(share))
        spent[share] = run.history[-1]["gradients"]
    assert spent[0.1] < 0.5 * spent[1.0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample_fraction": 0.0},
        {"sample_fraction": 1.1},
        {"sample_growth": 0.9},
        {"cg_tolerance": -0.1},
        {"damping": -0.1},
    ],
)
def test_settings_of_the_sample_are_checked(wrong):
    w = torch.ones(1, requires_grad=True)
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}: expected"):
        SubsampledNewton([w], **wrong)
