"""General constraints in a recipe: satisfied, reported, resumed with the same bits, and rejected with messages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris
from tests.support.stop_at import StopAt
from torch import nn

import descend
from descend.cli import main
from descend.cli.summary import _constraints
from descend.errors import Interrupted, RecipeError
from descend.recipe import Recipe
from descend.training.stopping import Stopping

RADIUS = 0.2


def short(model: nn.Module) -> torch.Tensor:
    """‖w‖² ≤ RADIUS² for all weights without the biases."""
    return torch.stack([p.square().sum() for p in model.parameters() if p.dim() > 1]).sum() - RADIUS**2


def balanced(model: nn.Module) -> torch.Tensor:
    return next(p for p in model.parameters() if p.dim() > 1)[0, :2].sum()


def constant(model: nn.Module) -> float:
    return 1.0


LINEAR: dict[str, Any] = {
    "data": {"sampling": "full", "validation": 0.2, "test": 0.2},
    "model": "linear",
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": {"name": "constant", "warmup": 0.0},
    "stop": {"max_epochs": 250, "patience": None, "average": 0.0},
    "engine": {"threads": 1},
}


def recipe(**constrain: object) -> dict[str, object]:
    return {**LINEAR, "constrain": constrain}


class TestSatisfied:
    @pytest.mark.slow
    @pytest.mark.parametrize("optimizer", [{"name": "sgd", "lr": 0.1}, {"name": "gd"}])
    def test_norm_constrained_least_squares_converges_to_its_kkt_point(
        self, optimizer: dict[str, object]
    ) -> None:
        """Least squares on the encoded rows: the recipe's loss is the mean squared error."""
        sections = recipe(inequality={"function": short, "penalty": 2.0, "tolerance": 1e-4}) | {
            "optimizer": optimizer
        }
        run = descend.train("diabetes", sections, seed=0)
        constraints = run.metrics["constraints"]
        assert constraints["feasible"]
        assert constraints["multipliers"][0][0] > 0
        assert constraints["kkt"] == max(
            constraints[key] for key in ("stationarity", "violation", "complementarity", "sign")
        )
        last = run.history[-1]["constraints"]
        assert last["kkt"] < 2e-3
        assert last["violation"] < 1e-3
        assert last["feasible"] is True
        weights = next(p for p in run.model.parameters() if p.dim() > 1).detach()
        assert weights.norm().item() == pytest.approx(RADIUS, rel=2e-3)
        free = descend.train("diabetes", {**LINEAR, "optimizer": optimizer}, seed=0)
        assert next(p for p in free.model.parameters() if p.dim() > 1).norm().item() > 2 * RADIUS
        assert "constraints" not in free.metrics
        assert "constraints" not in free.history[-1]

    @pytest.mark.slow
    def test_an_equality(self) -> None:
        run = descend.train("diabetes", recipe(equality=balanced), seed=0)
        residual = abs(balanced(run.model).item())
        assert residual < 1e-3
        assert run.metrics["constraints"]["violation"] == pytest.approx(residual, abs=1e-6)

    @pytest.mark.slow
    def test_both_and_several(self) -> None:
        run = descend.train("diabetes", recipe(equality=balanced, inequality=[short, balanced]), seed=0)
        assert run.metrics["constraints"]["feasible"]

    @pytest.mark.slow
    def test_with_batches_averages_dropout_and_steps_of_multipliers(self) -> None:
        sections = {
            "model": {"name": "mlp", "hidden": [16], "dropout": 0.2, "norm": "batch"},
            "constrain": {"inequality": {"function": bounded, "ascend": "step", "rate": 0.05}},
            "optimizer": {"name": "adam", "lr": 0.02},
            "stop": {"max_epochs": 30, "patience": None},
        }
        run = descend.train("iris", sections, seed=0)
        assert run.metrics["constraints"]["feasible"]
        assert float(bounded(run.model).detach()) <= 1e-3
        assert run.metrics["test"]["accuracy"] > 0.8

    @pytest.mark.slow
    def test_infeasible_epochs_are_not_kept_once_one_is_feasible(self) -> None:
        run = descend.train("diabetes", recipe(inequality=short), seed=0)
        feasible = [each["epoch"] for each in run.history if each["constraints"]["feasible"]]
        assert 1 < feasible[0] < 250
        assert run.metrics["best_epoch"] in feasible
        marked = [each["epoch"] for each in run.history if each["best"]]
        assert marked[: feasible[0]] == list(range(1, feasible[0] + 1))  # until then the latest is the best

    def test_an_infeasible_constraint_is_reported(self) -> None:
        sections = recipe(equality=lambda model: next(model.parameters()).square().sum() + 1)
        sections["stop"] = {**LINEAR["stop"], "max_epochs": 20}
        run = descend.train("diabetes", sections, seed=0)
        assert not run.metrics["constraints"]["feasible"]
        assert run.metrics["constraints"]["violation"] >= 1.0


def bounded(model: nn.Module) -> torch.Tensor:
    return torch.stack([p.square().sum() for p in model.parameters() if p.dim() > 1]).sum() / 20 - 1


class TestSeveralNetworks:
    SECTIONS: ClassVar[dict[str, object]] = {
        "model": {"name": "mlp", "hidden": [16]},
        "constrain": {"inequality": bounded},
        "optimizer": {"name": "adam", "lr": 0.02},
        "stop": {"max_epochs": 10},
    }

    def test_restarts_keep_a_feasible_network(self) -> None:
        run = descend.train("iris", {**self.SECTIONS, "init": {"restarts": 2}}, seed=0)
        assert run.metrics["constraints"]["feasible"]
        assert float(bounded(run.model).detach()) <= 1e-3

    def test_each_network_of_an_ensemble_is_feasible(self) -> None:
        run = descend.train(
            "iris", {**self.SECTIONS, "model": {"name": "mlp", "hidden": [16], "ensemble": 2}}, seed=0
        )
        assert "constraints" not in run.metrics
        assert all(float(bounded(member).detach()) <= 1e-3 for member in run.model.members)

    def test_partial_fit_continues_with_the_multipliers(self) -> None:
        x, y = load_iris(return_X_y=True)
        fitted = descend.Classifier(
            hidden=(16,), optimizer="adam", lr=0.02, recipe={"constrain": self.SECTIONS["constrain"]}
        )
        for _ in range(12):
            fitted.partial_fit(x, y, classes=[0, 1, 2])
        assert float(bounded(fitted.run_.model).detach()) < 0.1


class TestResume:
    @pytest.mark.parametrize("ascend", ["epoch", "step"])
    def test_a_resume_with_multipliers_has_the_same_bits(self, tmp_path: Path, ascend: str) -> None:
        sections = {
            "model": {"name": "mlp", "hidden": [6], "dropout": 0.2},
            "constrain": {
                "inequality": {"function": bounded, "ascend": ascend, "rate": 0.2},
                "equality": balanced,
            },
            "stop": {"max_epochs": 6},
            "engine": {"threads": 1},
        }
        descend.train("iris", sections, seed=1, out=tmp_path / "whole")
        with pytest.raises(Interrupted):
            descend.train("iris", sections, seed=1, out=tmp_path / "part", observers=[StopAt(9)])
        descend.train("iris", out=tmp_path / "part", resume=True, allow_imports=True)
        weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "part")]
        assert weights[0] == weights[1]
        lines = [
            [
                {k: v for k, v in json.loads(line).items() if k != "seconds"}
                for line in (tmp_path / name / "history.jsonl").read_text().splitlines()
            ]
            for name in ("whole", "part")
        ]
        assert lines[0] == lines[1]
        assert lines[0][-1]["constraints"]["kkt"] > 0
        reports = [(tmp_path / name / "metrics.json").read_text() for name in ("whole", "part")]
        assert json.loads(reports[0])["constraints"] == json.loads(reports[1])["constraints"]


class TestRejected:
    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (constant, "expected a tensor with its graph, got a float"),
            (lambda model: next(model.parameters()).detach().sum(), "does not depend on the parameters"),
            (lambda model: model(1), ""),
            ("no_path", "is not an import path"),
            ("descend.nowhere:f", "cannot import"),
            ("math:sqroot", "did you mean 'sqrt'"),
            ("math:pi", "not a function"),
            (3.0, "expected a function of the network"),
            ({"pattern": "*"}, "expected a function of the network"),
            ({"function": short, "penalty": -1.0}, "expected a number above 0"),
            ({"function": short, "penalti": 1.0}, "did you mean 'penalty'"),
        ],
    )
    def test_errors_name_the_key_before_anything_is_written(
        self, tmp_path: Path, function: object, message: str
    ) -> None:
        with pytest.raises(RecipeError, match=r"\[constrain\] inequality") as raised:
            descend.train("iris", {"constrain": {"inequality": function}}, out=tmp_path / "run")
        assert message in str(raised.value)
        assert not (tmp_path / "run").exists()

    def test_import_paths_in_recipe_files_need_permission(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "mine_own.py").write_text(
            "def small(model):\n    return sum(p.square().sum() for p in model.parameters()) - 9.0\n"
        )
        monkeypatch.chdir(tmp_path)
        Path("recipe.toml").write_text(
            '[model]\nname = "linear"\n[stop]\nmax_epochs = 2\n'
            '[constrain]\ninequality = {function = "mine_own:small", penalty = 2}\n'
        )
        with pytest.raises(RecipeError, match="importing runs its code"):
            descend.train("iris", "recipe.toml")
        assert "mine_own" not in sys.modules
        try:
            run = descend.train("iris", "recipe.toml", allow_imports=True, out=tmp_path / "run")
            assert run.recipe.constrain["inequality"] == {"function": "mine_own:small", "penalty": 2.0}
            with pytest.raises(RecipeError, match="allow_imports=True"):
                descend.load(tmp_path / "run")
            loaded = descend.load(tmp_path / "run", allow_imports=True)
            rows = np.zeros((2, 4))
            assert np.array_equal(loaded.predict(rows), run.predict(rows))
            changed = run.recipe.replace({"constrain.inequality.penalty": 3.0})
            assert changed.constrain["inequality"]["penalty"] == 3.0
        finally:
            sys.modules.pop("mine_own", None)

    def test_settings_can_be_added_to_a_function(self) -> None:
        changed = Recipe(constrain={"equality": balanced}).replace({"constrain.equality.penalty": 3.0})
        assert changed.constrain["equality"] == {"function": balanced, "penalty": 3.0}


class TestReport:
    def test_the_report_shows_the_residual_and_its_history(self, tmp_path: Path) -> None:
        sections = recipe(inequality={"function": short})
        sections["stop"] = {**LINEAR["stop"], "max_epochs": 20}
        page = (
            descend.train("diabetes", sections, seed=0, out=tmp_path / "run")
            .report()
            .read_text(encoding="utf-8")
        )
        for text in (
            "KKT residual",
            "gradient of the Lagrangian",
            "Constraint violation",
            "multiplier times slack",
        ):
            assert text in page


class TestCommandLine:
    def test_a_function_by_name_and_the_residual_in_the_output(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "my_bound.py").write_text(
            "def small(model):\n    return model.output.weight.square().sum() / 4 - 1\n"
        )
        monkeypatch.chdir(tmp_path)
        arguments = [
            "train",
            "iris",
            "--set",
            "model.name=linear",
            "--set",
            "constrain.inequality=my_bound:small",
        ]
        arguments += ["--set", "stop.max_epochs=2", "--quiet"]
        try:
            assert main([*arguments, "--json", "--out", "one"]) == 0
            constraints = json.loads(capsys.readouterr().out.splitlines()[-1])["constraints"]
            assert constraints["kkt"] >= constraints["violation"] >= 0
        finally:
            sys.modules.pop("my_bound", None)

    def test_the_summary_reports_violations(self) -> None:
        assert _constraints({}) == ""
        constraints = {"violation": 0.25, "feasible": False, "kkt": 0.5}
        assert (
            _constraints({"constraints": constraints})
            == " The constraints are violated by 0.25; the KKT residual is 0.5."
        )


class TestStopping:
    def test_feasible_weights_are_better(self) -> None:
        stopping = Stopping(max_epochs=99, patience=2)
        epochs = [
            (1.0, False),
            (0.5, False),
            (0.9, False),
            (3.0, True),
            (0.1, False),
            (2.0, True),
            (2.5, True),
            (1.9, False),
        ]
        reasons = [stopping.observe(loss, seconds=0.0, feasible=feasible) for loss, feasible in epochs]
        assert reasons == [None] * 7 + ["patience"]
        assert (stopping.best_epoch, stopping.best) == (6, 2.0)

    def test_a_target_counts_only_for_feasible_weights(self) -> None:
        stopping = Stopping(max_epochs=99, target=1.0, gradient_tolerance=0.1)
        assert stopping.observe(0.5, seconds=0.0, gradient_norm=0.0, feasible=False) is None
        assert stopping.observe(0.5, seconds=0.0) == "target"

    def test_the_state_contains_the_feasibility_of_the_best(self) -> None:
        stopping = Stopping(max_epochs=99)
        stopping.observe(1.0, seconds=0.0, feasible=False)
        again = Stopping(max_epochs=99)
        again.load_state_dict(stopping.state_dict())
        again.observe(2.0, seconds=0.0)
        assert again.best_epoch == 2
