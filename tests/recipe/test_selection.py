"""The metrics that a recipe requests, from the recipe to the records of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import descend
from descend.errors import RecipeError, UserError
from descend.recipe.selection import build_selection
from descend.runs.plan import plan_run

Array = np.ndarray[Any, Any]
SHORT = {"max_epochs": 3, "patience": None}


def profit(y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> float:
    """Ten for each true positive, minus one for each predicted one."""
    own = np.ones(len(y_true)) if sample_weight is None else sample_weight
    return float((own * (y_pred == 1) * (10.0 * (y_true == 1) - 1.0)).sum())


OWN = {"function": profit, "better": "higher", "takes": "classes"}


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (
            "breast_cancer",
            ["f1", "roc_auc", "average_precision", "brier", "log_loss", "matthews", "precision"],
        ),
        ("wine", ["f1_macro", "roc_auc", "brier", "top_2", "recall_macro"]),
        ("diabetes", ["mape", "median_ae", "pinball_0.9", "explained_variance", "mse"]),
    ],
)
def test_metrics_by_name_are_measured_each_epoch_and_packs_equal_solo_runs(
    data: str, names: list[str]
) -> None:
    recipe = {"stop": {**SHORT, "metrics": names, "monitor": names[0]}, "engine": {"threads": 1}}
    run = descend.train(data, recipe)
    (member, _) = descend.train_many([recipe, recipe], data, engine="packed")
    for record, own in zip(run.history, member.history, strict=True):
        assert set(names) <= set(record["validation"])
        assert record["best"] == own["best"]
        for name in names:
            assert own["validation"][name] == pytest.approx(record["validation"][name], rel=1e-5, abs=1e-6)
    best = run.history[run.metrics["best_epoch"] - 1]["validation"]
    for name in names:
        assert run.metrics["validation"][name] == pytest.approx(best[name], rel=1e-5, abs=1e-6)
        assert name in run.metrics["test"]


def test_a_metric_of_ones_own_is_monitored_recorded_and_saved(tmp_path: Path) -> None:
    stop = {**SHORT, "monitor": OWN, "min_improvement": 0.0}
    recipe = {"stop": stop, "engine": {"threads": 1}}
    run = descend.train("breast_cancer", recipe, out=tmp_path / "run")
    values = [record["validation"]["profit"] for record in run.history]
    assert run.metrics["best_epoch"] == 1 + int(np.argmax(values))
    assert (
        'monitor = { function = "tests.recipe.test_selection:profit"'
        in (tmp_path / "run" / "recipe.toml").read_text()
    )
    loaded = descend.load(tmp_path / "run", allow_imports=True)
    assert loaded.selection.monitor == "profit"
    assert loaded.metrics["test"]["profit"] == run.metrics["test"]["profit"]
    for member in descend.train_many([recipe, recipe], "breast_cancer", engine="packed"):
        assert [record["validation"]["profit"] for record in member.history] == values


def test_an_own_metric_of_weighted_rows_is_given_the_weights() -> None:
    x = np.linspace(-1, 1, 80)
    run = descend.train(
        (x[:, None], (x > 0).astype(int)),
        {"stop": {"max_epochs": 1, "metrics": [OWN]}},
        sample_weight=np.full(80, 2.0),
    )
    assert run.metrics["test"]["profit"] % 2 == 0


@pytest.mark.parametrize(
    ("stop", "message"),
    [
        ({"monitor": "f2"}, "unknown metric 'f2' for binary"),
        ({"metrics": ["f1", "r2"]}, "metrics: no metric 'r2' for binary"),
        ({"metrics": ["loss"]}, "metrics: unknown metric 'loss'"),
        ({"monitor": 3}, "monitor: expected the name of a metric, a function or its import path, got 3"),
        ({"monitor": {"better": "higher"}}, "got a table without the key 'function'"),
        ({"monitor": {**OWN, "weights": "w"}}, "monitor.weights: unknown key"),
        ({"monitor": {**OWN, "better": 1}}, "monitor.better: expected a string, got 1"),
        ({"monitor": profit}, "'profit' does not declare which direction is better"),
        ({"monitor": "no_such_module:f"}, "cannot import 'no_such_module'"),
        ({"monitor": {"function": "f1", "better": "lower"}}, "'f1' is a built-in metric and takes no better"),
        ({"monitor": {**OWN, "takes": "values"}}, "takes values, but the task is binary"),
    ],
)
def test_refusals(stop: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        plan_run("breast_cancer", {"stop": stop})


def test_an_import_path_needs_permission(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text('[stop]\nmonitor = "sklearn.metrics.f1_score"\n')
    with pytest.raises(RecipeError, match="importing runs its code; allow it with allow_imports=True"):
        plan_run("breast_cancer", path)
    assert (
        plan_run("breast_cancer", path, allow_imports=True).recipe.stop["monitor"]
        == "sklearn.metrics.f1_score"
    )


def test_an_own_metric_that_fails_is_reported_before_training() -> None:
    def broken_score(y_true: Array, y_pred: Array) -> float:
        raise KeyError("price")

    with pytest.raises(
        RecipeError, match=r"monitor: the metric 'broken_score' failed on y_true of shape \(85,\)"
    ):
        plan_run("breast_cancer", {"stop": {"monitor": broken_score}})


@pytest.mark.parametrize(
    ("monitor", "rows", "reason"),
    [
        ("r2", [7.0], "there is one row"),
        ("r2", [7.0, 7.0], "the targets are all equal"),
        ("mape", [0.0, 3.0], "a target is 0"),
    ],
)
def test_a_monitor_that_is_undefined_on_the_validation_rows_is_refused(
    monitor: str, rows: list[float], reason: str
) -> None:
    x, y, own = np.arange(6.0)[:, None], np.array([1.0, 2.1, 3.3, 4.2, 5.7, 7.9]), np.array(rows)
    count = len(rows)
    with pytest.raises(
        RecipeError, match=f"'{monitor}' is undefined on the {count} validation rows: {reason}"
    ):
        plan_run((x, y), {"stop": {"monitor": monitor}}, validation=(x[:count], own))
    run = descend.train((x, y), {"stop": {"max_epochs": 1}}, validation=(x[:count], own))
    assert run.metrics["validation"][monitor] is None


def test_one_class_in_the_validation_rows() -> None:
    x, y = np.linspace(-1, 1, 40)[:, None], np.arange(40) % 2
    rows = (x[:4], np.ones(4, dtype=int))
    with pytest.raises(
        RecipeError, match="'roc_auc' is undefined on the 4 validation rows: 1 of 2 classes has no row"
    ):
        plan_run((x, y), {"stop": {"monitor": "roc_auc"}}, validation=rows)
    run = descend.train((x, y), {"stop": {"max_epochs": 2}}, validation=rows)
    assert run.metrics["validation"]["balanced_accuracy"] is None
    assert run.metrics["validation"]["roc_auc"] is None
    assert isinstance(run.metrics["validation"]["accuracy"], float)


class TestObjective:
    def test_it_is_the_loss_that_training_minimizes(self) -> None:
        recipe = {"stop": {"max_epochs": 2}, "loss": {"label_smoothing": 0.2}, "engine": {"threads": 1}}
        run = descend.train("wine", recipe)
        assert run.recipe.stop["monitor"] == "objective"
        prepared = plan_run("wine", recipe).prepared.validation
        with torch.inference_mode():
            outputs = run.model(prepared.inputs)
        expected = torch.nn.functional.cross_entropy(outputs, prepared.targets, label_smoothing=0.2)
        assert run.metrics["validation"]["objective"] == pytest.approx(expected.item(), rel=1e-5)
        assert "objective" not in run.metrics["test"]

    @pytest.mark.parametrize("data", ["wine", "breast_cancer"])
    @pytest.mark.parametrize("class_weights", ["none", "balanced"])
    def test_packs_equal_solo_runs(self, data: str, class_weights: str) -> None:
        recipes = [
            {
                "stop": SHORT,
                "loss": {"label_smoothing": share},
                "data": {"class_weights": class_weights},
                "engine": {"threads": 1},
            }
            for share in ((0.1, 0.3) if data == "wine" else (0.2, 0.2))
        ]
        members = descend.train_many(recipes, data, engine="packed")
        for recipe, member in zip(recipes, members, strict=True):
            run = descend.train(data, recipe)
            values = [record["validation"]["objective"] for record in run.history]
            assert [r["validation"]["objective"] for r in member.history] == pytest.approx(values, rel=1e-5)

    def test_class_weights_are_those_of_the_training_rows(self) -> None:
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(200, 2)), (np.arange(200) % 10 == 0).astype(int)
        recipe = {
            "stop": {"max_epochs": 1},
            "loss": {"label_smoothing": 0.0},
            "data": {"class_weights": "balanced"},
        }
        run = descend.train((x, y), recipe)
        assert run.recipe.stop["monitor"] == "objective"
        prepared = plan_run((x, y), recipe).prepared
        with torch.inference_mode():
            z = run.model(prepared.validation.inputs)[:, 0]
        rows = torch.nn.functional.binary_cross_entropy_with_logits(
            z, prepared.validation.targets, reduction="none"
        )
        share = prepared.train.targets.mean()
        weights = torch.where(prepared.validation.targets == 1, 0.5 / share, 0.5 / (1 - share))
        expected = (rows * weights).sum() / weights.sum()
        assert run.metrics["validation"]["objective"] == pytest.approx(expected.item(), rel=1e-5)

    def test_without_smoothing_and_class_weights_the_loss_is_monitored(self) -> None:
        assert plan_run("wine", {"loss": {"label_smoothing": 0.0}}).recipe.stop["monitor"] == "loss"
        assert plan_run("diabetes").recipe.stop["monitor"] == "loss"


def test_a_selection_of_an_unresolved_recipe_monitors_the_loss() -> None:
    assert build_selection(descend.Recipe(), "binary", 2).monitor == "loss"


def test_search_and_compare_by_a_requested_metric() -> None:
    recipe = {"stop": {"max_epochs": 2}, "engine": {"threads": 1}}
    space = {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}
    for metric in ("roc_auc", OWN):
        result = descend.search("breast_cancer", recipe, space=space, trials=3, metric=metric)
        scores = [trial.score for trial in result.trials]
        assert None not in scores
        assert result.winner.score == max(score for score in scores if score is not None)
        assert result.metric == ("profit" if metric is OWN else metric)
    comparison = descend.compare(
        "breast_cancer", {"model.activation": ["relu", "tanh"]}, recipe=recipe, seeds=2, tune=0, metric=OWN
    )
    assert comparison.conditions.metric == "profit"
    assert all(isinstance(outcome.mean, float) for outcome in comparison.outcomes)
    with pytest.raises(UserError, match="the objective depends on the recipe"):
        descend.search("iris", recipe, space=space, trials=1, metric="objective")


def test_where_r2_is_undefined_trainings_are_compared_by_another_metric() -> None:
    x = np.linspace(-1, 1, 30)[:, None]
    y, one = 2 * x[:, 0], (x[:1], 2 * x[:1, 0])
    recipe = {"stop": {"max_epochs": 2}, "engine": {"threads": 1}}
    space = {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}
    result = descend.search((x, y), recipe, space=space, trials=2, validation=one)
    assert result.metric == "rmse"
    assert all(trial.score is not None for trial in result.trials)
    with pytest.raises(UserError, match="r2 is undefined on the 1 validation rows: there is one row"):
        descend.search((x, y), recipe, space=space, trials=2, validation=one, metric="r2")
    comparison = descend.compare(
        (x, y), {"model.activation": ["relu", "tanh"]}, recipe=recipe, seeds=2, tune=0, test=one
    )
    assert comparison.conditions.metric == "rmse"
    assert comparison.conditions.why == "r2 is undefined on the 1 test rows: there is one row"


def test_cross_validation_with_folds_of_one_row() -> None:
    x = np.linspace(-1, 1, 6)[:, None]
    result = descend.cross_validate((x, 2 * x[:, 0]), {"stop": {"max_epochs": 1}}, folds=6)
    assert result.metric == "rmse"
    assert len(result.valid_scores) == 6


def test_metrics_of_ones_own_with_one_name_are_not_mixed_up_in_a_pack() -> None:
    def one(y_true: Array, y_pred: Array) -> float:
        return 1.0

    def two(y_true: Array, y_pred: Array) -> float:
        return 2.0

    recipes = [
        {"stop": {"max_epochs": 1, "metrics": [{"function": each, "better": "higher", "name": "mine"}]}}
        for each in (one, two, one)
    ]
    runs = descend.train_many(recipes, "breast_cancer")
    assert [run.history[0]["validation"]["mine"] for run in runs] == [1.0, 2.0, 1.0]


def test_two_metrics_of_one_name_are_refused() -> None:
    """The records could hold one of them only."""
    first = {"function": lambda y_true, y_pred: 0.5, "better": "higher", "takes": "classes", "name": "mine"}
    second = {**first, "function": lambda y_true, y_pred: 0.7}
    with pytest.raises(RecipeError, match="two metrics have the name 'mine'; give one of them another name"):
        descend.train("iris", {"stop": {**SHORT, "metrics": [first, second]}})
    run = descend.train(
        "iris", {"stop": {**SHORT, "max_epochs": 1, "monitor": first, "metrics": [first, "f1_macro"]}}
    )
    assert run.metrics["validation"]["mine"] == 0.5
