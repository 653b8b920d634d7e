"""The main job: from data and a recipe to a run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_iris
from torch import nn

import descend
from descend.errors import DivergedError, Interrupted, RecipeError, UserError
from descend.recipe import Recipe
from descend.training.observers import Quiet

QUICK = Recipe(
    model={"hidden": [8], "dropout": 0.2},
    data={"batch_size": 16},
    stop={"max_epochs": 2},
    engine={"threads": 1, "device": "cpu"},
)


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    return x[::2], y[::2]


@pytest.fixture(scope="module")
def diabetes():
    x, y = load_diabetes(return_X_y=True)
    return x[:80], y[:80]


def weights_of(run) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()])


class Watch(Quiet):
    """Remembers what happened."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def started(self, training) -> None:
        self.events.append("started")

    def stepped(self, training) -> None:
        self.events.append("step")

    def epoch_ended(self, training, record) -> None:
        self.events.append(f"epoch {record['epoch']}")

    def finished(self, training) -> None:
        self.events.append("finished")


class TestASeedIsEverything:
    def test_the_same_bits(self, iris):
        one = weights_of(descend.train(iris, QUICK, seed=5))
        torch.manual_seed(123)
        np.random.seed(123)  # noqa: NPY002 - what a user may do
        assert torch.equal(weights_of(descend.train(iris, QUICK, seed=5)), one)
        assert not torch.equal(weights_of(descend.train(iris, QUICK, seed=6)), one)

    @pytest.mark.parametrize(
        "changes", [{}, {"data.sampling": "with_replacement"}, {"gradient.accumulate": 2}], ids=str
    )
    def test_for_every_way_of_drawing(self, iris, changes):
        recipe = QUICK.replace(changes)
        assert torch.equal(weights_of(descend.train(iris, recipe)), weights_of(descend.train(iris, recipe)))

    def test_nothing_is_left_behind(self, iris):
        state, threads = torch.get_rng_state(), torch.get_num_threads()
        numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must stay
        descend.train(iris, QUICK)
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads
        assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002 - the same
        assert torch.is_grad_enabled()

    def test_nor_after_a_failure(self, iris):
        state, threads = torch.get_rng_state(), torch.get_num_threads()
        with pytest.raises(DivergedError):
            descend.train(iris, QUICK.replace({"optimizer": {"name": "sgd", "lr": 1e30}}))
        assert torch.equal(torch.get_rng_state(), state)
        assert torch.get_num_threads() == threads


class TestWhatComesOfIt:
    def test_metrics(self, iris):
        run = descend.train(iris, QUICK)
        assert {key: run.metrics[key] for key in ("status", "task", "epochs", "stopped")} == {
            "status": "finished",
            "task": "multiclass",
            "epochs": 2,
            "stopped": "max_epochs",
        }
        rows = run.schema.rows
        assert sum(rows.values()) == 75
        assert run.metrics["steps"] == 2 * math.ceil(rows["train"] / 16)
        for part in ("train", "validation", "test"):
            assert {"loss", "accuracy", "balanced_accuracy"} <= set(run.metrics[part])
            assert ({"f1_macro", "roc_auc", "log_loss"} <= set(run.metrics[part])) == (part != "train")
        assert run.evaluation["rows"] == rows["test"]
        assert np.sum(run.evaluation["confusion"]) == rows["test"]

    def test_the_best_epoch_is_kept(self, iris):
        run = descend.train(iris, QUICK.replace({"stop": {"max_epochs": 6, "min_improvement": 0.0}}))
        losses = [record["validation"]["loss"] for record in run.history]
        assert run.metrics["best_epoch"] == 1 + int(np.argmin(losses))
        assert run.metrics["validation"]["loss"] == pytest.approx(min(losses), rel=1e-5)
        best = [record["epoch"] for record in run.history if record["best"]]
        assert best[-1] == run.metrics["best_epoch"]

    def test_environment(self, iris):
        run = descend.train(iris, QUICK, seed=11)
        environment = run.environment
        assert environment["seed"] == 11
        assert environment["threads"] == 1
        assert environment["device"] == "cpu"
        assert environment["torch"] == torch.__version__
        assert environment["data"]["rows"] == 75
        assert environment["model"]["parameters"] == sum(p.numel() for p in run.model.parameters())

    def test_measured_threads_are_in_the_recipe_with_a_reason(self, iris):
        run = descend.train(iris, QUICK.replace({"engine.threads": "auto"}))
        assert run.recipe.get("engine.threads") == run.environment["threads"] >= 1
        assert run.reasons["engine.threads"] == run.environment["threads_reason"] != ""

    def test_without_parts_to_hold_out(self, iris):
        run = descend.train(iris, QUICK.replace({"data.validation": 0.0, "data.test": 0.0}))
        assert "validation" not in run.metrics
        assert "test" not in run.metrics
        assert "validation" not in run.history[0]
        assert run.evaluation["part"] == "train"

    def test_it_learns(self, iris, diabetes):
        recipe = QUICK.replace({"stop.max_epochs": 40, "optimizer": {"name": "adam", "lr": 0.02}})
        assert descend.train(iris, recipe).metrics["test"]["accuracy"] > 0.85
        assert descend.train(diabetes, recipe).metrics["train"]["r2"] > 0.3

    def test_observers_watch_in_order(self, iris):
        watch = Watch()
        run = descend.train(iris, QUICK, observers=[watch])
        steps = run.metrics["steps"] // 2
        epoch = ["step"] * steps
        assert watch.events == ["started", *epoch, "epoch 1", *epoch, "epoch 2", "finished"]


class TestWeightsOfRows:
    def test_weight_zero_is_as_good_as_absent(self, iris):
        x, y = iris
        full = QUICK.replace(
            {"data.sampling": "full", "data.validation": 0.0, "data.test": 0.0, "model.dropout": 0.0}
        )
        wrong = np.where(np.arange(75) % 3 == 0, (y + 1) % 3, y)
        recipe = full.replace({"stop.max_epochs": 30, "optimizer": {"name": "adam", "lr": 0.05}})
        ignored = descend.train((x, wrong), recipe, sample_weight=(np.arange(75) % 3 != 0).astype(float))
        believed = descend.train((x, wrong), recipe)
        good = np.arange(75) % 3 != 0
        assert (ignored.predict(x)[~good] == y[~good]).mean() > 0.9
        assert believed.metrics["train"]["loss"] > 2 * ignored.metrics["train"]["loss"]


class TestAGivenModule:
    def test_is_trained_in_place(self, iris):
        module = nn.Linear(4, 3)
        before = module.weight.detach().clone()
        run = descend.train(iris, QUICK, model=module)
        assert run.model is module
        assert not torch.equal(module.weight, before)

    @pytest.mark.parametrize(
        ("module", "said"),
        [
            (nn.Linear(4, 7), "expected outputs of shape (rows, 3) for two rows, got (2, 7)"),
            (nn.Linear(5, 3), "the network cannot take rows of shape (4,)"),
            (nn.Linear(4, 3, dtype=torch.float64), "the network cannot take rows of shape (4,)"),
            (nn.Sequential(nn.Linear(4, 3).requires_grad_(False)), "the network has no weights to train"),
            (
                "mlp",
                "got the string 'mlp'; a network is named in the recipe: recipe={'model': 'mlp'}",
            ),
            (
                nn.Linear,
                "model: expected a torch.nn.Module, got the class Linear; pass an instance, Linear(...)",
            ),
        ],
        ids=str,
    )
    def test_that_does_not_fit_is_refused(self, iris, tmp_path, module, said):
        with pytest.raises(UserError) as caught:
            descend.train(iris, QUICK, model=module, out=tmp_path / "run")
        assert said in str(caught.value)
        assert not (tmp_path / "run").exists()


class TestEnds:
    def test_diverged_with_advice(self, iris):
        with pytest.raises(DivergedError) as caught:
            descend.train(iris, QUICK.replace({"optimizer": {"name": "sgd", "lr": 1e30}}))
        message = str(caught.value)
        assert message.startswith("Training diverged: ")
        assert "{'optimizer.lr': 1e+29}" in message
        assert caught.value.exit_status == 3

    def test_interrupted_without_a_folder(self, iris):
        class Stop(Quiet):
            def stepped(self, training) -> None:
                training.stop_requested = True

        with pytest.raises(Interrupted, match=r"stopped in epoch 1 after 1 steps$") as caught:
            descend.train(iris, QUICK, observers=[Stop()])
        assert caught.value.exit_status == 130

    def test_target_reached(self, iris):
        run = descend.train(
            iris, QUICK.replace({"stop": {"monitor": "accuracy", "target": 0.0, "max_epochs": 9}})
        )
        assert (run.metrics["stopped"], run.metrics["epochs"]) == ("target", 1)

    def test_patience(self, iris):
        recipe = QUICK.replace({"stop": {"patience": 1, "max_epochs": 50, "min_improvement": 0.99}})
        run = descend.train(iris, recipe)
        assert (run.metrics["stopped"], run.metrics["epochs"]) == ("patience", 2)

    def test_time(self, iris):
        run = descend.train(iris, QUICK.replace({"stop": {"max_seconds": 1e-9, "max_epochs": 50}}))
        assert (run.metrics["stopped"], run.metrics["epochs"]) == ("max_seconds", 1)


class TestRecipeForms:
    def test_a_file(self, iris, tmp_path):
        (tmp_path / "r.toml").write_text(QUICK.to_toml())
        one, other = descend.train(iris, QUICK), descend.train(iris, tmp_path / "r.toml")
        assert torch.equal(weights_of(one), weights_of(other))

    def test_the_saved_recipe_repeats_the_run(self, iris, tmp_path):
        run = descend.train(iris, QUICK, out=tmp_path / "run", seed=2)
        again = descend.train(iris, tmp_path / "run" / "recipe.toml", seed=2)
        assert torch.equal(weights_of(run), weights_of(again))
        assert again.recipe == run.recipe

    def test_import_paths_of_a_file(self, iris, tmp_path):
        (tmp_path / "r.toml").write_text(QUICK.replace({"optimizer": torch.optim.NAdam}).to_toml())
        with pytest.raises(RecipeError, match="allow_imports=True"):
            descend.train(iris, tmp_path / "r.toml")
        assert descend.train(iris, tmp_path / "r.toml", allow_imports=True).metrics["epochs"] == 2


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_precision(iris, precision):
    run = descend.train(iris, QUICK.replace({"engine.precision": precision}))
    assert all(parameter.dtype == torch.float32 for parameter in run.model.parameters())
    assert math.isfinite(run.metrics["test"]["loss"])
