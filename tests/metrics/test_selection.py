"""Which metrics are measured when, and the reasons why a metric is undefined."""

from __future__ import annotations

import pytest
import torch

from descend.errors import UserError
from descend.metrics import Selection, find_metric, undefined_reason
from descend.metrics.selection import LARGEST_SORT


def names(metrics: tuple) -> list[str]:
    return [metric.name for metric in metrics]


def test_requested_metrics_are_measured_each_epoch() -> None:
    selection = Selection("regression", 0, (find_metric("mape"), find_metric("rmse")), "mape")
    assert names(selection.each_epoch()) == ["r2", "mae", "rmse", "mape"]
    assert selection.better == "lower"
    assert names(selection.at_end(10)) == ["r2", "mae", "rmse", "median_ae", "mape"]


def test_metrics_at_the_end() -> None:
    assert "top_5" in names(Selection("multiclass", 6).at_end(10))
    assert "top_5" not in names(Selection("multiclass", 5).at_end(10))
    assert {"roc_auc", "f1", "brier"} <= set(names(Selection("binary", 2).at_end(10)))


def test_very_many_rows_are_sorted_only_on_request() -> None:
    many = LARGEST_SORT // 2 + 1
    assert "roc_auc" in names(Selection("binary", 2).at_end(many - 1))
    assert "roc_auc" not in names(Selection("binary", 2).at_end(many))
    assert "roc_auc" in names(Selection("binary", 2, (find_metric("roc_auc"),)).at_end(many))


def test_an_unknown_direction() -> None:
    with pytest.raises(UserError, match="unknown metric"):
        Selection("binary", 2).direction("profit")


@pytest.mark.parametrize(
    ("name", "task", "targets", "weights", "classes", "reason"),
    [
        ("accuracy", "binary", [], None, 2, "there are no rows"),
        ("accuracy", "binary", [0, 1], [0.0, 0.0], 2, "all weights are 0"),
        ("accuracy", "binary", [0], None, 2, None),
        ("balanced_accuracy", "multiclass", [0, 2], None, 3, "1 of 3 classes has no row"),
        ("balanced_accuracy", "multiclass", [0, 1, 2], [1.0, 0.0, 0.0], 3, "2 of 3 classes have no row"),
        ("roc_auc", "binary", [1, 1], None, 2, "1 of 2 classes has no row"),
        ("roc_auc", "multiclass", [0, 1], None, 2, None),
        ("average_precision", "binary", [1, 1], None, 2, None),
        ("average_precision", "binary", [0, 0], None, 2, "1 of 2 classes has no row"),
        ("f1", "binary", [0, 0], None, 2, "1 of 2 classes has no row"),
        ("precision", "binary", [0, 0], None, 2, "1 of 2 classes has no row"),
        ("matthews", "binary", [1, 1], None, 2, "1 of 2 classes has no row"),
        ("r2", "regression", [3.0], None, 0, "there is one row"),
        ("r2", "regression", [3.0, 3.0], None, 0, "the targets are all equal"),
        ("r2", "regression", [3.0, 4.0], None, 0, None),
        ("mape", "regression", [0.0, 1.0], None, 0, "a target is 0"),
        ("median_ae", "regression", [3.0], None, 0, None),
    ],
)
def test_reasons(
    name: str, task: str, targets: list, weights: list | None, classes: int, reason: str | None
) -> None:
    own = None if weights is None else torch.tensor(weights)
    assert undefined_reason(find_metric(name), task, torch.tensor(targets), own, classes) == reason
