"""Metrics of probabilities equal scikit-learn wherever both are defined, and are NaN where they are undefined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.preprocessing import label_binarize
from tests.support.examples import examples

from descend.metrics import METRICS, average_precision, find_metric, log_loss, roc_auc, top_k

Array = np.ndarray[Any, Any]


def _average_precision(y: Array, p: Array, **weights: Array) -> float:
    if p.ndim == 1:
        return float(reference.average_precision_score(y, p, **weights))
    each = label_binarize(y, classes=range(p.shape[1])) if p.shape[1] > 2 else np.c_[1 - y, y]
    return float(reference.average_precision_score(each, p, average="macro", **weights))


def _roc_auc(y: Array, p: Array, **weights: Array) -> float:
    if p.ndim == 1:
        return float(reference.roc_auc_score(y, p, **weights))
    return float(reference.roc_auc_score(y, p, multi_class="ovr", average="macro", **weights))


REFERENCE: dict[str, Callable[..., float]] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "brier": lambda y, p, **w: reference.brier_score_loss(
        y, p, labels=range(2 if p.ndim == 1 else p.shape[1]), **w
    ),
    "log_loss": lambda y, p, **w: reference.log_loss(
        y, p, labels=range(2 if p.ndim == 1 else p.shape[1]), **w
    ),
}


def rows(seed: int, n: int, classes: int, ties: bool) -> tuple[Array, Array, Array]:
    """Return targets in which every class occurs, probabilities (equal ones among them if ``ties``), and weights."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.concatenate([np.arange(classes), rng.integers(0, classes, n)]))
    logits = rng.normal(size=(len(y), classes)) + np.eye(classes)[y]
    if ties:
        logits = np.round(logits)
    p = np.exp(logits)
    p /= p.sum(1, keepdims=True)
    return y, p[:, 1] if classes == 2 else p, rng.uniform(0.1, 5.0, len(y))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", REFERENCE)
@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), classes=st.integers(2, 5), ties=st.booleans())
def test_equal_to_scikit_learn(
    name: str, weighted: bool, seed: int, n: int, classes: int, ties: bool
) -> None:
    y, p, w = rows(seed, n, classes, ties)
    got = METRICS[name](
        torch.from_numpy(p), torch.from_numpy(y), torch.from_numpy(w) if weighted else None, classes
    )
    expected = REFERENCE[name](y, p, **({"sample_weight": w} if weighted else {}))
    assert got.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 30), k=st.integers(1, 4), ties=st.booleans())
def test_top_k_equals_scikit_learn(weighted: bool, seed: int, n: int, k: int, ties: bool) -> None:
    y, p, w = rows(seed, n, 5, ties)
    got = find_metric(f"top_{k}")(
        torch.from_numpy(p), torch.from_numpy(y), torch.from_numpy(w) if weighted else None
    )
    expected = reference.top_k_accuracy_score(
        y, p, k=k, labels=range(5), sample_weight=w if weighted else None
    )
    assert got.item() == pytest.approx(expected, rel=1e-12)


def test_the_first_place_is_the_predicted_class_up_to_ties() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.3, 0.1]])
    assert top_k(p, torch.tensor([1, 1]), k=1).item() == 0.5


@pytest.mark.parametrize("y", [[0, 0, 0], [1, 1, 1]])
def test_the_area_under_the_curve_of_one_class_is_undefined(y: list[int]) -> None:
    assert roc_auc(torch.tensor([0.1, 0.5, 0.9]), torch.tensor(y)).isnan()


def test_average_precision_without_a_row_of_the_class_is_undefined() -> None:
    assert average_precision(torch.tensor([0.1, 0.9]), torch.tensor([0, 0])).isnan()
    assert average_precision(torch.tensor([0.1, 0.9]), torch.tensor([1, 1])).item() == 1.0


def test_rows_of_weight_zero_do_not_count() -> None:
    p, y = torch.tensor([0.1, 0.4, 0.35, 0.8, 0.9]), torch.tensor([0, 0, 1, 1, 0])
    w = torch.tensor([1.0, 1.0, 1.0, 1.0, 0.0])
    for metric in (roc_auc, average_precision):
        assert metric(p, y, w).item() == pytest.approx(metric(p[:4], y[:4]).item())
    only_negative = torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0])
    assert roc_auc(p, y, only_negative).isnan()
    assert average_precision(p, y, only_negative).isnan()


@pytest.mark.parametrize("name", [*REFERENCE, "top_2"])
def test_without_rows_or_weight_every_metric_is_undefined(name: str) -> None:
    metric = find_metric(name)
    assert metric(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), None, 3).isnan()
    assert metric(torch.full((2, 3), 1 / 3), torch.tensor([0, 1]), torch.zeros(2), 3).isnan()


def test_a_confident_mistake_costs_a_finite_log_loss() -> None:
    assert log_loss(torch.tensor([0.0]), torch.tensor([1])).item() == pytest.approx(36.0437, abs=1e-4)
