"""The table of metrics: tasks, directions, names with a parameter, and messages."""

from __future__ import annotations

import functools

import pytest

from descend.cards import card
from descend.errors import UserError
from descend.metrics import METRICS, OwnName, better, find_metric, main_metric, metric_names, metrics_of

TASKS = ("binary", "multiclass", "regression", "multi_regression")


def test_the_metrics_of_each_task() -> None:
    assert list(metrics_of("regression")) == list(metrics_of("multi_regression"))
    assert list(metrics_of("regression"))[:3] == ["r2", "mae", "rmse"]
    only_binary = set(metrics_of("binary")) - set(metrics_of("multiclass"))
    assert only_binary == {"f1", "precision", "recall"}


@pytest.mark.parametrize("task", TASKS)
def test_main_metric_and_direction(task: str) -> None:
    name = main_metric(task)
    assert name == ("r2" if "regression" in task else "accuracy")
    assert better(name) == "higher"
    assert METRICS[name].each_epoch


def test_directions() -> None:
    lower = {"brier", "log_loss", "mae", "rmse", "mse", "median_ae", "mape"}
    assert {name for name in METRICS if better(name) == "lower"} == lower
    assert [better(name) for name in ("loss", "top_3", "pinball_0.1")] == ["lower", "higher", "lower"]
    assert better(OwnName("cost", "lower")) == "lower"


@pytest.mark.parametrize("name", [*METRICS, "top_5", "pinball_0.9"])
def test_every_metric_has_a_card(name: str) -> None:
    function = find_metric(name).function
    known = card(function.func if isinstance(function, functools.partial) else function)
    assert known is not None
    assert known.formula
    assert known.reference


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("acuracy", None, "unknown metric 'acuracy'; did you mean 'accuracy'"),
        ("auc", "binary", "unknown metric 'auc' for binary; did you mean 'roc_auc'"),
        ("MCC", "multiclass", "did you mean 'matthews'"),
        ("pinball", "regression", "did you mean 'pinball_0.5'"),
        ("auc", "regression", "unknown metric 'auc' for regression"),
        ("f1", "multiclass", "no metric 'f1' for multiclass; did you mean 'f1_macro'"),
        ("r2", "multiclass", "no metric 'r2' for multiclass; one of: loss, objective, accuracy"),
        ("top_0", "multiclass", "expected a name such as 'top_5'"),
        ("top_x", None, "expected a name such as 'top_5'"),
        ("top_3", "binary", "no metric 'top_3' for binary"),
        ("pinball_1.5", "regression", "expected a name such as 'pinball_0.9', Q between 0 and 1"),
        ("pinball_nan", "regression", "expected a name such as 'pinball_0.9'"),
    ],
)
def test_messages(name: str, task: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        find_metric(name, task)


def test_an_unknown_task() -> None:
    with pytest.raises(UserError, match="did you mean 'binary'"):
        main_metric("binry")


@pytest.mark.parametrize("task", TASKS)
def test_every_offered_name_can_be_used(task: str) -> None:
    names = metric_names(task, classes=10)
    assert names[:2] == ["loss", "objective"]
    assert all(task in find_metric(name, task).tasks for name in names[2:])
    assert ("top_5" in names) == (task == "multiclass")
    assert ("pinball_0.9" in names) == ("regression" in task)
    assert "top_5" not in metric_names("multiclass", classes=5)


@pytest.mark.parametrize(
    ("name", "task", "meant"),
    [
        ("val_loss", "binary", "loss"),
        ("val_accuracy", "multiclass", "accuracy"),
        ("F1", "binary", "f1"),
        ("F1", "multiclass", "f1_macro"),
        ("neg_mean_squared_error", "regression", "mse"),
        ("neg_root_mean_squared_error", "regression", "rmse"),
        ("neg_mean_absolute_error", "multi_regression", "mae"),
        ("neg_log_loss", "multiclass", "log_loss"),
        ("neg_brier_score", "binary", "brier"),
        ("roc_auc_ovr", "multiclass", "roc_auc"),
        ("f1_weighted", "multiclass", "f1_macro"),
    ],
)
def test_names_of_other_libraries(name: str, task: str, meant: str) -> None:
    with pytest.raises(UserError, match=rf"unknown metric '{name}' for {task}; did you mean '{meant}'\?"):
        find_metric(name, task)
