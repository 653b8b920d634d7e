"""Metrics of classes equal scikit-learn wherever both are defined, and are NaN where they are undefined."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from tests.support.examples import examples

from descend.errors import UserError
from descend.metrics import (
    METRICS,
    accuracy,
    balanced_accuracy,
    f1,
    f1_macro,
    matthews,
    precision,
    precision_macro,
    predicted_classes,
    recall,
    recall_macro,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:A single label was found:UserWarning"
)  # a warning of scikit-learn

MULTICLASS: dict[str, Callable[..., float]] = {
    "accuracy": reference.accuracy_score,
    "balanced_accuracy": reference.balanced_accuracy_score,
    "f1_macro": lambda y, p, **w: reference.f1_score(y, p, average="macro", **w),
    "precision_macro": lambda y, p, **w: reference.precision_score(y, p, average="macro", **w),
    "recall_macro": lambda y, p, **w: reference.recall_score(y, p, average="macro", **w),
    "matthews": reference.matthews_corrcoef,
}
BINARY: dict[str, Callable[..., float]] = {
    "f1": reference.f1_score,
    "precision": reference.precision_score,
    "recall": reference.recall_score,
}


def rows(seed: int, n: int, classes: int) -> tuple[np.ndarray[Any, Any], ...]:
    """Return targets and predictions in which every class occurs, and weights."""
    rng = np.random.default_rng(seed)
    every = np.arange(classes)
    y = rng.permutation(np.concatenate([every, rng.integers(0, classes, n)]))
    p = rng.permutation(np.concatenate([every, rng.integers(0, classes, n)]))
    return y, p, rng.uniform(0.1, 5.0, len(y))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", [*MULTICLASS, *BINARY])
@settings(max_examples=examples(40), deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 30), classes=st.integers(2, 5), known=st.booleans())
def test_equal_to_scikit_learn(
    name: str, weighted: bool, seed: int, n: int, classes: int, known: bool
) -> None:
    classes = 2 if name in BINARY else classes
    y, p, w = rows(seed, n, classes)
    weights = torch.from_numpy(w) if weighted else None
    got = METRICS[name](torch.from_numpy(p), torch.from_numpy(y), weights, classes if known else 0)
    expected = {**MULTICLASS, **BINARY}[name](y, p, **({"sample_weight": w} if weighted else {}))
    assert got.shape == ()
    assert got.item() == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(max_examples=examples(40), deadline=None)
@given(labels=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=20))
def test_without_the_number_of_classes_balanced_accuracy_is_over_those_that_occur(
    labels: list[tuple[int, int]],
) -> None:
    y, p = np.array(labels).T
    p = np.where(np.isin(p, y), p, y[0])
    got = balanced_accuracy(torch.from_numpy(p), torch.from_numpy(y))
    assert got.item() == pytest.approx(reference.balanced_accuracy_score(y, p), rel=1e-12)


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")  # a warning of scikit-learn
def test_a_predicted_class_without_targets() -> None:
    y, p = np.array([0, 0, 2, 2]), np.array([0, 1, 2, 1])
    got = balanced_accuracy(torch.from_numpy(p), torch.from_numpy(y))
    assert got.item() == pytest.approx(reference.balanced_accuracy_score(y, p))


def test_a_class_without_weight_is_ignored_or_leaves_the_metric_undefined() -> None:
    p, y, w = torch.tensor([0, 1, 1]), torch.tensor([0, 1, 2]), torch.tensor([1.0, 1.0, 0.0])
    assert balanced_accuracy(p, y, w).item() == 1.0
    assert balanced_accuracy(p, y, w, classes=3).isnan()


@pytest.mark.parametrize("metric", [balanced_accuracy, f1_macro, recall_macro, precision_macro])
def test_a_class_without_rows_leaves_means_over_classes_undefined(
    metric: Callable[..., torch.Tensor],
) -> None:
    p, y = torch.tensor([0, 1, 0]), torch.tensor([0, 1, 1])
    assert not metric(p, y, classes=2).isnan()
    assert metric(p, y, classes=3).isnan()


def test_undefined_for_lack_of_rows_of_the_second_class() -> None:
    none = torch.tensor([0, 0, 0])
    assert recall(torch.tensor([0, 1, 0]), none).isnan()
    assert f1(torch.tensor([0, 1, 0]), none).isnan()
    assert precision(torch.tensor([0, 1, 0]), none).item() == 0.0
    assert precision(none, torch.tensor([0, 1, 0])).isnan()  # no row is predicted as the class
    assert f1(none, torch.tensor([0, 1, 0])).item() == 0.0


@pytest.mark.parametrize(("p", "y"), [([0, 0], [0, 1]), ([0, 1], [0, 0]), ([1, 1], [1, 1])])
def test_matthews_of_one_class_is_undefined(p: list[int], y: list[int]) -> None:
    assert matthews(torch.tensor(p), torch.tensor(y), classes=2).isnan()


@pytest.mark.parametrize("weights", [None, torch.zeros(0)])
@pytest.mark.parametrize("name", [*MULTICLASS, *BINARY])
def test_without_rows_every_metric_is_undefined(name: str, weights: torch.Tensor | None) -> None:
    nothing = torch.zeros(0, dtype=torch.long)
    assert METRICS[name](nothing, nothing, weights, 2).isnan()
    assert METRICS[name](nothing, nothing, weights).isnan()


@pytest.mark.parametrize("name", [*MULTICLASS, *BINARY])
def test_with_all_weights_zero_every_metric_is_undefined(name: str) -> None:
    y = torch.tensor([0, 1, 1])
    assert METRICS[name](y, y, torch.zeros(3), 2).isnan()


@pytest.mark.parametrize("targets", [torch.tensor([0, 1, 1, 0]), torch.tensor([0.0, 1.0, 1.0, 0.0])])
def test_raw_outputs_and_class_indices_are_equivalent(targets: torch.Tensor) -> None:
    logits = torch.tensor([[-1.0], [2.0], [-0.5], [0.0]])
    pairs = torch.cat([torch.zeros_like(logits), logits], 1)
    for metric in (accuracy, balanced_accuracy, f1, matthews):
        expected = metric(torch.tensor([0, 1, 0, 0]), targets)
        assert (
            expected == metric(logits, targets) == metric(pairs, targets) == metric(logits[:, 0] > 0, targets)
        )


def test_predicted_classes() -> None:
    assert predicted_classes(torch.tensor([True, False])).tolist() == [1, 0]
    assert predicted_classes(torch.tensor([3, 1])).tolist() == [3, 1]


def test_wrong_shapes_of_weights_are_refused() -> None:
    with pytest.raises(UserError, match=r"expected weights of shape \(3,\), one per row"):
        accuracy(torch.zeros(3).long(), torch.zeros(3).long(), torch.ones(3, 1))
