"""Normalization, penalties and constraints on real data: train, resume, average, save, load, export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import safetensors.torch
import torch
from sklearn.datasets import load_digits
from tests.support.stop_at import StopAt
from torch import nn
from torch.utils.data import Dataset

import descend
from descend.constraints import remove_parametrizations
from descend.errors import Interrupted, RecipeError
from descend.export import load_exported
from descend.export.portable import make_portable
from descend.training.loop import Training
from descend.training.observers import Quiet

QUICK: dict[str, Any] = {
    "model": {"hidden": [12], "dropout": 0.2},
    "data": {"batch_size": 32},
    "schedule": {"warmup": 0.0},
    "stop": {"max_epochs": 2, "average": 1.0},
    "engine": {"threads": 1, "device": "cpu"},
}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    x, y = load_digits(return_X_y=True)
    rows = np.random.default_rng(0).permutation(len(x))[:240]
    return x[rows], y[rows]


def recipe(**sections: Any) -> dict[str, Any]:
    return {name: {**QUICK.get(name, {}), **sections.get(name, {})} for name in {*QUICK, *sections}}


CASES: dict[str, dict[str, Any]] = {
    "decorrelated": {"model": {"norm": {"name": "decorrelated", "groups": 2}}},
    "power_iteration": {"model": {"norm": {"name": "decorrelated", "backward": "power_iteration"}}},
    "iterative": {"model": {"norm": "iterative", "norm_position": "after"}},
    "l1_prox": {"regularize": {"l1_prox": 0.002}, "optimizer": {"name": "adam", "lr": 1e-2}},
    "jacobian": {"regularize": {"jacobian": 0.01}},
    "jacobian_exact": {
        "regularize": {"jacobian": 0.01, "jacobian_projections": "exact"},
        "model": {"norm": "decorrelated"},
    },
    "gradient_penalty": {"regularize": {"gradient_penalty": 0.1}, "gradient": {"accumulate": 2}},
    "so": {"regularize": {"orthogonality": "so"}, "model": {"dropout": 0.0}},
    "srip": {"regularize": {"orthogonality": "srip"}},
    "orthogonal": {"constrain": {"orthogonal": "linear*"}, "optimizer": {"name": "adamw", "lr": 1e-2}},
    "orthogonal_cayley": {
        "constrain": {"orthogonal": {"pattern": "linear*", "method": "cayley"}},
        "optimizer": {"name": "adamw", "lr": 1e-2},
    },
    "cayley_adam": {
        "constrain": {"orthogonal": {"pattern": "linear*", "method": "cayley"}},
        "optimizer": {"name": "cayley_adam", "lr": 1e-2, "groups": {"output": 0.5}},
        "regularize": {"weight_decay": 0.1},
    },
    "cayley_sgd": {
        "constrain": {"orthogonal": {"pattern": "linear*", "method": "cayley"}},
        "optimizer": {"name": "cayley_sgd", "momentum": 0.9, "iterations": 2},
        "regularize": {"weight_decay": 0.1, "l1_prox": 0.01},
    },
    "orthogonal_penalty": {"constrain": {"orthogonal": {"pattern": "linear1", "method": "penalty"}}},
    "norm_ball": {"constrain": {"norm_ball": {"pattern": "*", "radius": 0.5}}, "optimizer": {"lr": 1e-2}},
    "simplex": {"constrain": {"simplex": ["linear*"]}, "optimizer": {"lr": 1e-2}},
    "binary": {"constrain": {"binary": "linear1"}, "optimizer": {"lr": 1e-2}},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_trains_resumes_with_the_same_bits_saves_and_exports(name: str, digits: Any, tmp_path: Path) -> None:
    sections = recipe(**CASES[name])
    run = descend.train(digits, sections, seed=2, out=tmp_path / "whole")
    first, last = run.history[0], run.history[-1]
    assert last["train"]["loss"] < first["train"]["loss"]
    middle = run.metrics["steps"] // 2 + 1
    with pytest.raises(Interrupted):
        descend.train(digits, sections, seed=2, out=tmp_path / "part", observers=[StopAt(middle)])
    descend.train(digits, out=tmp_path / "part", resume=True)
    written = [(tmp_path / part / "weights.safetensors").read_bytes() for part in ("whole", "part")]
    assert written[0] == written[1]
    rows = digits[0][:50]
    expected = run.predict_proba(rows)
    np.testing.assert_array_equal(descend.load(tmp_path / "whole").predict_proba(rows), expected)
    for kind in ("pt2", "safetensors"):
        exported = load_exported(run.export(kind, tmp_path)).predict_proba(rows)
        np.testing.assert_allclose(exported, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["decorrelated", "iterative", "orthogonal", "binary"])
def test_exports_to_onnx(name: str, digits: Any, tmp_path: Path) -> None:
    run = descend.train(digits, recipe(**CASES[name], stop={"max_epochs": 1}))
    session = onnxruntime.InferenceSession(run.export("onnx", tmp_path / "model.onnx"))
    rows = digits[0][:20]
    _, probabilities = session.run(None, {"rows": rows})
    np.testing.assert_allclose(probabilities, run.predict_proba(rows), rtol=1e-4, atol=1e-5)


def test_the_random_projections_follow_the_seed(digits: Any) -> None:
    """They are a function of the seed of the run, the epoch and the step."""
    sections = recipe(
        **CASES["jacobian"], stop={"max_epochs": 1, "average": 0.0}, model={"hidden": [12], "dropout": 0.0}
    )
    weights = [descend.train(digits, sections, seed=seed).model.linear1.weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def in_ball(weight: torch.Tensor) -> bool:
    return bool((weight.norm(dim=1) <= 0.5 * (1 + 3e-6)).all())


def in_simplex(weight: torch.Tensor) -> bool:
    return bool((weight >= 0).all() and ((weight.sum(1) - 1.0).abs() < 1e-5).all())


def is_binary(weight: torch.Tensor) -> bool:
    return len(weight.abs().unique()) == 1 and bool(weight.abs().min() > 0)


def is_orthonormal(weight: torch.Tensor) -> bool:
    return bool((weight @ weight.mT - torch.eye(len(weight))).abs().max() <= 1e-6)


HOLDS = {
    "norm_ball": in_ball,
    "simplex": in_simplex,
    "binary": is_binary,
    "orthogonal": is_orthonormal,
    "orthogonal_cayley": is_orthonormal,
    "cayley_adam": is_orthonormal,
    "cayley_sgd": is_orthonormal,
}


class ConstraintChecker(Quiet):
    """Checks a weight after every step, and while the average is evaluated."""

    def __init__(self, holds: Any) -> None:
        self.holds = holds
        self.after_steps: list[bool] = []
        self.averaged: list[bool] = []

    def started(self, training: Training) -> None:
        measure = training.evaluate
        assert measure is not None

        def measured() -> Any:
            self.averaged.append(self.holds(training.model.linear1.weight.detach()))
            return measure()

        training.evaluate = measured

    def stepped(self, training: Training) -> None:
        self.after_steps.append(self.holds(training.model.linear1.weight.detach()))


@pytest.mark.parametrize("name", HOLDS)
def test_a_constraint_holds_everywhere(name: str, digits: Any, tmp_path: Path) -> None:
    """After every step, in the average, after a resume, in the saved run, and in exported models."""
    holds, sections = HOLDS[name], recipe(**CASES[name])
    checker = ConstraintChecker(holds)
    with pytest.raises(Interrupted):
        descend.train(digits, sections, out=tmp_path / "run", observers=[checker, StopAt(8)])
    run = descend.train(digits, out=tmp_path / "run", resume=True, observers=[checker])
    assert len(checker.after_steps) == run.metrics["steps"]
    assert all(checker.after_steps)
    assert len(checker.averaged) == 2
    assert all(checker.averaged)
    assert holds(run.model.linear1.weight.detach())
    assert holds(descend.load(tmp_path / "run").model.linear1.weight.detach())
    file = run.export("safetensors", tmp_path)
    assert holds(safetensors.torch.load_file(file)["model.linear1.weight"])
    exported: Any = load_exported(file).program
    assert holds(exported.model.linear1.weight)
    program = make_portable(run.predictor)
    assert holds(program.model.linear1.weight)
    assert not [key for key in program.state_dict() if "parametrizations" in key]


@pytest.mark.parametrize("name", ["norm_ball", "simplex"])
def test_averages_are_projected_back_onto_constraints(name: str, digits: Any, monkeypatch: Any) -> None:
    """The average of feasible weights may be feasible up to rounding, so the test checks that a projection is set."""
    from descend.training import averaging

    projections = []
    real = averaging.WeightAverage.__init__

    def spy(self: Any, parameters: Any, horizon: float, settle: Any = None) -> None:
        projections.append(settle)
        real(self, parameters, horizon, settle)

    monkeypatch.setattr(averaging.WeightAverage, "__init__", spy)
    descend.train(digits, recipe(**CASES[name], stop={"max_epochs": 1}))
    assert projections
    assert all(settle is not None for settle in projections)


def test_l1_prox_yields_exact_zeros_in_the_average(digits: Any) -> None:
    run = descend.train(digits, recipe(**CASES["l1_prox"]))
    zeros = (run.model.linear1.weight == 0).float().mean()
    assert 0.05 < zeros < 1.0
    penalized = descend.train(
        digits, recipe(regularize={"l1": 0.002}, optimizer={"name": "adam", "lr": 1e-2})
    )
    assert (penalized.model.linear1.weight == 0).float().mean() < 0.01


def test_the_jacobian_penalty_reduces_the_jacobian(digits: Any) -> None:
    def squared_jacobian(strength: float) -> float:
        sections = recipe(
            regularize={"jacobian": strength}, stop={"max_epochs": 6, "average": 0.0}, optimizer={"lr": 1e-2}
        )
        run = descend.train(digits, sections)
        rows = run.preprocess(run.schema.matrix(digits[0][:64])).requires_grad_()
        jacobian = torch.func.vmap(torch.func.jacrev(lambda row: run.model(row[None])[0]))(rows.detach())
        return float(jacobian.detach().square().sum((1, 2)).mean())

    assert squared_jacobian(0.1) < 0.5 * squared_jacobian(0.0)


class Tensors(Dataset[Any]):
    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = torch.from_numpy(x).float() / 16, torch.from_numpy(y)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], int(self.y[index])


def test_the_jacobian_penalty_on_a_dataset(digits: Any) -> None:
    run = descend.train(Tensors(*digits), recipe(regularize={"jacobian": 0.01}, stop={"max_epochs": 1}))
    assert run.metrics["status"] == "finished"


def test_bfloat16(digits: Any) -> None:
    for name in ("decorrelated", "iterative", "jacobian"):
        sections = recipe(**CASES[name], engine={"precision": "bfloat16"})
        run = descend.train(digits, sections)
        assert run.history[-1]["train"]["loss"] < run.history[0]["train"]["loss"]


def test_a_user_module_is_constrained_and_loads(digits: Any, tmp_path: Path) -> None:
    def own() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(54, 12), nn.ReLU(), nn.Linear(12, 10))

    run = descend.train(digits, recipe(constrain={"orthogonal": "0"}), model=own(), out=tmp_path / "run")
    assert is_orthonormal(run.model[0].weight)
    again = descend.load(tmp_path / "run", model=own())
    np.testing.assert_array_equal(again.predict_proba(digits[0][:9]), run.predict_proba(digits[0][:9]))
    exported = load_exported(run.export("safetensors", tmp_path), model=own())
    np.testing.assert_allclose(
        exported.predict_proba(digits[0][:9]), run.predict_proba(digits[0][:9]), atol=1e-6
    )
    assert remove_parametrizations(own()) is not None


class TestInvalidRecipes:
    @pytest.mark.parametrize("norm", ["decorrelated", "iterative", "batch"])
    def test_normalization_over_batches_of_one_row(self, norm: str, digits: Any, tmp_path: Path) -> None:
        sections = recipe(model={"norm": norm}, data={"batch_size": 1})
        with pytest.raises(RecipeError, match=r"\[data\] batch_size: 'norm1'"):
            descend.train(digits, sections, out=tmp_path / "run")
        assert not (tmp_path / "run").exists()

    def test_groups_that_do_not_divide(self, digits: Any) -> None:
        with pytest.raises(RecipeError, match="5 groups do not divide 12 features"):
            descend.train(digits, recipe(model={"norm": {"name": "iterative", "groups": 5}}))

    def test_a_constraint_without_matching_weights(self, digits: Any, tmp_path: Path) -> None:
        with pytest.raises(
            RecipeError, match=r"no weight is called 'conv\*'; there are: linear1.weight, output.weight"
        ):
            descend.train(digits, recipe(constrain={"binary": "conv*"}), out=tmp_path / "run")
        assert not (tmp_path / "run").exists()
