"""``descend check``: against the algebra of least squares, planted faults, on trained runs, and what it refuses."""

import hashlib
import math

import numpy as np
import pytest
import torch

import descend as package
from descend.errors import UserError
from descend.runs.checks import objective_of, optimality_of
from descend.runs.run import load

LEAST_SQUARES = {
    "model": {"name": "linear"},
    "data": {"sampling": "full"},
    "loss": "mse",
    "optimizer": {"name": "gd"},
    "schedule": {"name": "constant", "warmup": 0.0},
    "stop": {"max_epochs": 2, "average": 0.0, "patience": None},
}


def fingerprints(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def held_to(model):
    return next(model.parameters()).square().sum() - 9


class TestCommand:
    @pytest.mark.slow
    def test_a_run_that_was_stopped_early(self, descend, trained):
        folder, _ = trained
        before = fingerprints(folder)
        found = descend("check", "optimality", folder, "--products", "12", "--json").json
        assert found["verdict"] == "not stationary"
        assert found["gradient_norm"] > found["tolerance"] == 1e-4
        assert found["smallest"] <= found["largest"]
        assert found["products"] <= 12
        assert fingerprints(folder) == before

    def test_words_for_people(self, descend, trained):
        result = descend("check", "optimality", trained[0], "--products", "5", "--tolerance", "1e-9")
        assert result.status == 0
        assert "not stationary: the gradient norm exceeds" in " ".join(result.out.split())

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nowhere"], "no such run folder"),
            (["RUN", "--tolerance", "-1"], "tolerance"),
            (["RUN", "--products", "0"], "products"),
            (["RUN", "--data", "iris"], "no column 'band'"),
        ],
    )
    def test_mistakes_exit_with_two(self, descend, trained, arguments, words):
        result = descend(
            "check", "optimality", *(trained[0] if each == "RUN" else each for each in arguments)
        )
        assert result.status == 2
        assert words in result.err
        assert "Traceback" not in result.err

    def test_other_rows_than_the_runs_are_refused(self, descend, trained, houses, tmp_path):
        fewer = tmp_path / "fewer.csv"
        lines = houses.read_text(encoding="utf-8").splitlines(keepends=True)
        fewer.write_text("".join(lines[:-9]), encoding="utf-8")
        result = descend("check", "optimality", trained[0], "--data", fewer)
        assert (result.status, "fingerprint" in result.err) == (2, True)

    @pytest.mark.slow
    def test_under_constraints(self, descend, tmp_path, monkeypatch):
        """‖w‖ ≤ 0.2 holds least squares away from its minimum: the multiplier carries the rest of the gradient."""
        (tmp_path / "my_bounds.py").write_text(
            "def short(model):\n    return next(model.parameters()).square().sum() - 0.04\n"
        )
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        lines = [
            "model.name=linear", "data.sampling=full", "data.validation=0.0", "loss.name=mse",
            "optimizer.name=sgd", "optimizer.lr=0.1",
            "optimizer.momentum=0.0", "schedule.name=constant", "schedule.warmup=0.0", "regularize.weight_decay=0.0",
            "stop.max_epochs=400", "stop.average=0.0", "stop.patience=none", "constrain.inequality=my_bounds:short",
        ]  # fmt: skip
        settings = [part for line in lines for part in ("--set", line)]
        train = descend("train", "diabetes", *settings, "--out", "run", "--allow-imports", "--quiet")
        assert train.status == 0, train.err
        assert "--allow-imports" in descend("check", "optimality", "run").err
        arguments = ["check", "optimality", "run", "--allow-imports", "--tolerance", "0.01"]
        found = descend(*arguments, "--json").json
        assert found["verdict"] == "minimum"
        assert found["multipliers"][0][0] > 0
        assert found["gradient_norm"] == found["constraints"]["stationarity"] < 0.01
        assert found["constraints"]["violation"] < 1e-3
        shown = " ".join(descend(*arguments).out.split())
        assert "those of the Lagrangian" in shown
        assert "by least squares" in shown

    def test_conditions_that_cannot_be_checked(self):
        """One that holds float32 numbers of its own."""
        held = torch.full((1, 4), 0.1)

        def along(model):
            return (next(model.parameters())[:1] @ held.T).reshape(-1) - 9

        shown = {"model": {"name": "linear"}, "stop": {"max_epochs": 1}, "constrain": {"inequality": along}}
        with pytest.raises(UserError, match=r"(?s)\[constrain\] inequality.*float64.*tensor.to\(weight\)"):
            optimality_of(package.train("iris", shown))

    @pytest.mark.parametrize(
        "constrain",
        [{}, {"inequality": held_to}, {"orthogonal": "linear*"}],
        ids=["none", "inequality", "orthogonal"],
    )
    def test_an_ensemble_is_no_minimum_of_anything(self, constrain):
        model = {"name": "mlp", "hidden": [4], "ensemble": 2}
        run = package.train("iris", {"model": model, "stop": {"max_epochs": 1}, "constrain": constrain})
        with pytest.raises(
            UserError, match=r"an ensemble of 2 independently trained networks.*model.ensemble = 1"
        ):
            optimality_of(run)

    def test_help_names_it(self, descend):
        assert "check" in descend("--help").out
        assert "optimality" in descend("check", "--help").out


class TestOfLeastSquares:
    @pytest.fixture
    def run(self):
        return package.train("diabetes", LEAST_SQUARES, seed=1)

    def test_the_spectrum_is_that_of_the_normal_equations(self, run):
        """F = mean (y - a - X w)²: its Hessian is 2/n [1 X]'[1 X], whatever the weights."""
        batch = objective_of(run)._batches[0]
        design = np.column_stack([np.ones(len(batch.inputs)), batch.inputs.flatten(1)])
        ends = np.linalg.eigvalsh(2 / len(design) * design.T @ design)[[0, -1]]
        found = optimality_of(run)
        assert [found.smallest, found.largest] == pytest.approx(ends, rel=1e-5)
        assert found.verdict == "not stationary"

    def test_at_the_normal_equations_solution_it_is_a_minimum(self, run):
        batch = objective_of(run)._batches[0]
        design = np.column_stack([batch.inputs.flatten(1), np.ones(len(batch.inputs))])
        solution = np.linalg.lstsq(design, batch.targets.numpy().reshape(len(design)), rcond=None)[0]
        weight, bias = run.model.parameters()
        weight.data, bias.data = (
            weight.data.double().copy_(weight.data.new_tensor(solution[:-1].tolist()).reshape(weight.shape)),
            bias.data.double().copy_(bias.data.new_tensor(solution[-1:].tolist())),
        )
        found = optimality_of(run, tolerance=1e-5)
        assert found.verdict == "minimum"
        assert found.gradient_norm < 1e-5


class TestObjective:
    @pytest.mark.parametrize(
        ("data", "recipe"),
        [
            ("iris", {"model": {"hidden": [6], "norm": "batch", "dropout": 0.3}}),
            ("breast_cancer", {"model": {"hidden": [6]}, "loss": "squared"}),
            (
                "iris",
                {"model": {"hidden": [6]}, "regularize": {"l2": 0.1}, "data": {"class_weights": "balanced"}},
            ),
            ("diabetes", {"model": {"hidden": [6]}, "loss": "huber"}),
        ],
    )
    def test_is_finite_in_double_precision_and_leaves_the_run(self, data, recipe, tmp_path):
        run = package.train(data, {**recipe, "stop": {"max_epochs": 1}}, out=tmp_path / "run")
        before = {name: value.clone() for name, value in run.model.state_dict().items()}
        found = optimality_of(load(tmp_path / "run"), limit=5)
        assert math.isfinite(found.gradient_norm)
        assert found.gradient_norm > 0
        again = optimality_of(run, limit=5)
        assert again == found
        assert all((run.model.state_dict()[name] == value).all() for name, value in before.items())

    def test_data_without_a_name_must_be_given(self):
        x, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2
        run = package.train((x, y), {"model": "linear", "stop": {"max_epochs": 1}})
        with pytest.raises(UserError, match="data="):
            optimality_of(run)
        assert optimality_of(run, (x, y)).products > 0

    def test_is_what_was_measured_on_the_training_rows(self):
        """By predicting, which drops nothing and takes the norms' averages."""
        recipe = {
            "model": {"hidden": [6], "norm": "batch", "dropout": 0.5},
            "loss": {"name": "cross_entropy", "label_smoothing": 0.0},
            "optimizer": {"lr": 0.05},  # or the outputs are near zero, whatever is dropped
            "stop": {"max_epochs": 8},
        }
        run = package.train("iris", recipe)
        assert run.metrics["train"]["loss"] < 0.5
        assert optimality_of(run, limit=1).loss == pytest.approx(run.metrics["train"]["loss"], rel=1e-4)


PLANTED = """
import torch


class _Wrong(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, d):
        (x,) = ctx.saved_tensors
        return d * (1 - x.tanh())  # the square is missing


class Wrong(torch.nn.Module):
    def forward(self, x):
        return _Wrong.apply(x)


def network(inputs, outputs):
    return torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(inputs[0], 5), torch.nn.Sequential(torch.nn.Tanh(), Wrong()),
        torch.nn.Linear(5, outputs),
    )
"""


class TestGradients:
    def test_all_agree(self, descend):
        result = descend("check", "gradients", "iris", "--set", "model.hidden=[5]", "--json")
        assert result.status == 0
        assert result.json["agrees"] is True
        assert result.json["culprits"] == []
        assert [each["name"] for each in result.json["parameters"]] == [
            "linear1.weight", "linear1.bias", "output.weight", "output.bias",
        ]  # fmt: skip
        assert max(each["numeric_error"] for each in result.json["parameters"]) < 1e-6

    @pytest.mark.slow
    def test_a_planted_fault_is_named(self, descend, tmp_path, monkeypatch):
        (tmp_path / "planted.py").write_text(PLANTED, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)
        arguments = ["check", "gradients", "iris", "--set", "model.name=planted.network"]
        result = descend(*arguments, "--json")
        assert result.status == 3
        assert result.json["culprits"] == ["2.1"]
        shown = descend(*arguments)
        assert shown.status == 3
        assert "wrong derivative in: 2.1 (Wrong)" in shown.out

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["nothing.csv"], "nothing.csv"),
            (["iris", "--rows", "0"], "rows"),
            (["iris", "--set", "model.activation=sin"], "no such activation"),
            (["iris", "--tolerance", "-1"], "tolerance"),
        ],
    )
    def test_mistakes_exit_with_two(self, descend, arguments, words):
        result = descend("check", "gradients", *arguments)
        assert result.status == 2
        assert words in result.err
        assert "Traceback" not in result.err
