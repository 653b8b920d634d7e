"""Before any training: what is requested fits the data and the machine, or is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_iris

from descend.api import execute
from descend.errors import DataError, RecipeError, RunError, UserError
from descend.recipe import Recipe
from descend.runs.plan import as_recipe, choose_device, plan_run
from descend.runs.resume import amended_recipe

QUICK = Recipe(model={"hidden": [4]}, stop={"max_epochs": 1}, engine={"threads": 1, "device": "cpu"})


@pytest.fixture(scope="module")
def iris():
    x, y = load_iris(return_X_y=True)
    return x[::2], y[::2]


class TestRecipes:
    def test_whatever_stands_for_one(self, tmp_path):
        recipe = Recipe(optimizer="sgd")
        (tmp_path / "r.toml").write_text('optimizer = "sgd"')
        assert as_recipe(None, False) == Recipe()
        with pytest.raises(UserError, match=r"no such recipe file: y; .* a column to predict is target='y'"):
            as_recipe("y", False)
        assert as_recipe(recipe, False) is recipe
        assert as_recipe({"optimizer": "sgd"}, False) == recipe
        assert as_recipe(str(tmp_path / "r.toml"), False) == as_recipe(tmp_path / "r.toml", False) == recipe

    @pytest.mark.parametrize("recipe", [3, ["sgd"], {"sgd"}, dict])
    def test_what_does_not(self, recipe):
        kinds = r"(an int|a list|a set|the class dict)$"
        expected = f"recipe: expected a Recipe, a mapping of sections or the path of a file, got {kinds}"
        with pytest.raises(UserError, match=expected):
            as_recipe(recipe, False)

    def test_import_paths_of_a_file_need_leave_and_of_a_mapping_do_not(self, tmp_path):
        (tmp_path / "r.toml").write_text('optimizer = "torch.optim.NAdam"')
        with pytest.raises(RecipeError, match="allow_imports=True"):
            as_recipe(tmp_path / "r.toml", False)
        assert as_recipe(tmp_path / "r.toml", True) == as_recipe({"optimizer": "torch.optim.NAdam"}, False)


class TestDevice:
    def test_names(self):
        assert choose_device("cpu") == torch.device("cpu")
        assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")

    @pytest.mark.parametrize(
        "name", ["gpu", "", "cuda:77", "meta", "hpu", "privateuseone", "cpu:x", "\ud800"]
    )
    def test_what_cannot_be_used(self, name):
        with pytest.raises(RecipeError) as caught:
            choose_device(name)
        (problem,) = caught.value.problems
        assert (problem.section, problem.key) == ("engine", "device")
        assert " is not available" in problem.message
        assert "available on this machine: cpu" in problem.hint
        assert "\n" not in problem.message


class TestCombinations:
    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"schedule": "plateau", "data.validation": 0.0}, "there are no validation rows to monitor"),
            ({"stop.target": 0.9, "data.validation": 0.0}, "there are no validation rows to measure it on"),
            ({"stop.monitor": "acuracy"}, "unknown metric 'acuracy' for multiclass; did you mean 'accuracy'"),
            ({"stop.monitor": "r2"}, "no metric 'r2' for multiclass"),
            ({"engine.device": "gpu"}, "[engine] device: the device 'gpu' is not available"),
            ({"data.scale": "auto"}, "unknown scale 'auto'"),
            ({"data.validation": 0.6, "data.test": 0.6}, "leave no training rows"),
            ({"optimizer.momentum": 0.9, "optimizer.amsgrad": True}, "no optimizer takes all of amsgrad, momentum"),
        ],
        ids=str,
    )  # fmt: skip
    def test_refused(self, iris, changes, said):
        with pytest.raises(UserError) as caught:
            plan_run(iris, QUICK.replace(changes))
        assert said in str(caught.value)

    def test_all_of_them_at_once(self, iris):
        with pytest.raises(RecipeError) as caught:
            plan_run(
                iris,
                {"schedule": "plateau", "stop": {"monitor": "r2", "target": 1}, "data": {"validation": 0.0}},
            )
        assert [(p.section, p.key) for p in caught.value.problems] == [
            ("stop", "monitor"),
            ("schedule", "monitor"),
            ("stop", "target"),
        ]

    def test_plateau_may_watch_the_objective(self, iris):
        found = plan_run(
            iris, {"schedule": {"name": "plateau", "monitor": "objective"}, "data": {"validation": 0.0}}
        )
        assert found.recipe.get("schedule.monitor") == "objective"

    @pytest.mark.parametrize("monitor", ["loss", "accuracy", "balanced_accuracy"])
    def test_monitors(self, iris, monitor):
        assert plan_run(iris, {"stop": {"monitor": monitor}}).recipe.get("stop.monitor") == monitor


class TestPlan:
    def test_it_writes_nothing_and_draws_nothing(self, iris, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        before = torch.get_rng_state()
        plan_run(iris, QUICK)
        plan_run(iris, QUICK, tmp_path / "run")
        assert torch.equal(torch.get_rng_state(), before)
        assert not list(tmp_path.iterdir())

    def test_the_recipe_is_complete(self, iris):
        found = plan_run(iris, QUICK, seed=4)
        assert found.seed == 4
        assert found.recipe == found.resolved.recipe
        assert found.recipe.get("data.task") == "multiclass"
        assert found.recipe.get("model.hidden") == (4,)

    def test_shorthands(self):
        frame = pl.DataFrame(
            {"a": range(40), "b": [float(i % 7) for i in range(40)], "c": [i * 0.5 for i in range(40)]}
        )
        one = plan_run(frame, target="c", device="cpu")
        assert (one.recipe.get("data.target"), one.recipe.get("engine.device")) == ("c", "cpu")
        two = plan_run(frame, target=["b", "c"])
        assert two.recipe.get("data.target") == ("b", "c")
        assert two.prepared.schema.task == "multi_regression"

    def test_given_parts(self, iris):
        x, y = iris
        found = plan_run((x[:50], y[:50]), validation=(x[50:60], y[50:60]), test=(x[60:], y[60:]))
        assert found.prepared.schema.rows == {"train": 50, "validation": 10, "test": 15}
        carved = plan_run((x[:60], y[:60]), test=(x[60:], y[60:])).prepared.schema.rows
        assert carved["test"] == 15
        assert carved["validation"] > 0
        assert carved["train"] + carved["validation"] == 60

    def test_the_split_follows_from_the_seed(self, iris):
        one, same, other = (plan_run(iris, seed=seed).prepared.train.rows for seed in (1, 1, 2))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)

    def test_weights_of_rows(self, iris):
        weights = np.linspace(1, 2, 75)
        found = plan_run(iris, sample_weight=weights).prepared.train
        np.testing.assert_allclose(found.weights, weights[found.rows], rtol=1e-6)
        with pytest.raises(DataError):
            plan_run(iris, sample_weight=-weights)


class TestResume:
    @pytest.fixture
    def folder(self, iris, tmp_path) -> Path:
        folder = tmp_path / "run"
        execute(plan_run(iris, QUICK.replace({"optimizer": torch.optim.NAdam}), folder, seed=9), folder)
        return folder

    def resumed(self, iris, folder, recipe=None, **options):
        return plan_run(iris, recipe, folder, resume=True, allow_imports=True, **options)

    def test_seed_and_recipe_are_those_of_the_run(self, iris, folder):
        found = self.resumed(iris, folder)
        assert found.seed == 9
        assert found.recipe == Recipe.load(folder / "recipe.toml", allow_imports=True)

    @pytest.mark.parametrize(
        "recipe",
        [
            None,
            {},
            QUICK,
            {"optimizer": torch.optim.NAdam},
            {"optimizer": "torch.optim.nadam:NAdam"},
            {"stop": {"max_epochs": 1, "patience": "auto", "max_seconds": None}},
        ],
        ids=str,
    )
    def test_the_same_may_be_said_again(self, iris, folder, recipe):
        assert self.resumed(iris, folder, recipe).seed == 9

    def test_nothing_else_may(self, iris, folder):
        with pytest.raises(RunError) as caught:
            self.resumed(iris, folder, {"optimizer": "adam", "stop": {"max_epochs": 2}})
        lines = str(caught.value).splitlines()
        assert lines[1:] == ["  optimizer.name: was 'torch.optim.nadam:NAdam', now 'adam'"]

    def test_what_does_not_determine_the_past_may_change(self, iris, folder):
        recipe = {"stop": {"max_epochs": 2, "patience": 3}, "checkpoint": {"every_epochs": 4}}
        planned = self.resumed(iris, folder, recipe)
        assert planned.recipe.stop["max_epochs"] == 2
        assert planned.recipe.checkpoint["every_epochs"] == 4
        assert planned.before is not None
        assert planned.before.stop["max_epochs"] == 1
        assert self.resumed(iris, folder, {"stop": {"max_epochs": 1}}).before is None

    def test_a_device_that_is_not_here(self, iris, folder):
        path = folder / "recipe.toml"
        path.write_text(path.read_text().replace('device = "cpu"', 'device = "cuda:77"'))
        with pytest.raises(
            RunError, match=r"started on the device 'cuda:77', which is not available .*device='cpu'"
        ):
            self.resumed(iris, folder)
        with pytest.warns(UserWarning, match="continues on cpu"):
            assert self.resumed(iris, folder, device="cpu").recipe.engine["device"] == "cpu"

    def test_another_device_is_named(self, folder):
        with pytest.warns(UserWarning, match=r"was started on cpu and continues on meta.*last digits differ"):
            amended_recipe(folder, Recipe(engine={"device": "cpu"}), Recipe(engine={"device": "meta"}))

    def test_other_data(self, iris, folder):
        x, y = iris
        with pytest.raises(
            RunError, match=r"the data are not those of the run .* has other values in the columns x0"
        ):
            self.resumed((x + 1e-9, y), folder)

    def test_another_seed(self, iris, folder):
        with pytest.raises(RunError, match=r"was started with seed=9, not 1"):
            self.resumed(iris, folder, seed=1)

    def test_its_imports_need_leave(self, iris, folder):
        with pytest.raises(RecipeError, match="allow_imports=True"):
            plan_run(iris, None, folder, resume=True)

    def test_where_there_is_nothing(self, iris, tmp_path):
        with pytest.raises(RunError, match=r"nothing to resume: .* is not a run folder"):
            plan_run(iris, None, tmp_path, resume=True)
        with pytest.raises(UserError, match="resume=True requires out=<run folder>"):
            plan_run(iris, None, None, resume=True)

    @pytest.mark.parametrize("name", ["environment.json", "schema.json"])
    @pytest.mark.parametrize("content", [None, b"", b"{}", b'{"seed": "three"}', b"\xff"])
    def test_damaged_folders(self, iris, folder, name, content):
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)
        with pytest.raises(RunError, match=name):
            self.resumed(iris, folder)

    def test_a_seed_is_not_made_up(self, iris, folder):
        environment = json.loads((folder / "environment.json").read_text())
        del environment["seed"]
        (folder / "environment.json").write_text(json.dumps(environment))
        with pytest.raises(RunError, match="it contains no seed"):
            self.resumed(iris, folder)
