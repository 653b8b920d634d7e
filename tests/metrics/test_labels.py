"""Metrics of several labels against scikit-learn, with weights, and where they are undefined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sklearn import metrics as reference

from descend.metrics import find_metric, main_metric, metrics_of

RANDOM = np.random.default_rng(0)
TARGETS = (RANDOM.random((40, 3)) < [0.5, 0.2, 0.7]).astype(int)
PROBABILITIES = np.clip(0.35 * TARGETS + 0.65 * RANDOM.random((40, 3)), 0.01, 0.99)
PREDICTIONS = (PROBABILITIES > 0.5).astype(int)
WEIGHTS = RANDOM.integers(0, 4, 40).astype(float)


def of_each(metric: Callable[..., float]) -> Callable[..., float]:
    def mean(y: Any, p: Any, sample_weight: Any = None) -> float:
        return float(np.mean([metric(y[:, at], p[:, at], sample_weight=sample_weight) for at in range(3)]))

    return mean


CASES: dict[str, Callable[..., float]] = {
    "f1_micro": lambda y, p, **w: reference.f1_score(y, p, average="micro", **w),
    "f1_macro": lambda y, p, **w: reference.f1_score(y, p, average="macro", **w),
    "subset_accuracy": reference.accuracy_score,
    "label_accuracy": lambda y, p, **w: 1 - reference.hamming_loss(y, p, **w),
    "roc_auc": lambda y, p, **w: reference.roc_auc_score(y, p, average="macro", **w),
    "average_precision": lambda y, p, **w: reference.average_precision_score(y, p, average="macro", **w),
    "brier": of_each(reference.brier_score_loss),
    "log_loss": of_each(reference.log_loss),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("weighted", [False, True])
def test_equals_scikit_learn(name: str, weighted: bool) -> None:
    metric = find_metric(name, "multi_label")
    p = PREDICTIONS if metric.takes == "classes" else PROBABILITIES
    weights = torch.tensor(WEIGHTS) if weighted else None
    expected = CASES[name](TARGETS, p, sample_weight=WEIGHTS if weighted else None)
    got = metric(torch.tensor(p), torch.tensor(TARGETS, dtype=torch.float32), weights, 2)
    assert got.item() == pytest.approx(expected, rel=1e-12)
    assert got.dtype == torch.float64


def test_these_are_the_metrics_of_labels() -> None:
    assert set(metrics_of("multi_label")) == set(CASES)
    assert main_metric("multi_label") == "f1_micro"


def test_a_label_that_never_holds_is_left_out() -> None:
    y, p = torch.tensor([[1, 0], [0, 0]]), torch.tensor([[0.9, 0.1], [0.2, 0.3]])
    for name in ("roc_auc", "average_precision"):
        assert find_metric(name)(p, y, None, 2).item() == 1.0
    assert find_metric("f1_macro")((p > 0.5).long(), y, None, 2).item() == 1.0


def test_undefined_without_any_label() -> None:
    y = torch.zeros(3, 2, dtype=torch.long)
    for name in ("f1_micro", "f1_macro", "roc_auc", "average_precision"):
        p = y if find_metric(name).takes == "classes" else y.double()
        assert find_metric(name)(p, y, None, 2).isnan()
    assert find_metric("label_accuracy")(y, y, None, 2).item() == 1.0
