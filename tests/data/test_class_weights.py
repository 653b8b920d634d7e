"""Weights of classes equal weights of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

import descend
from descend.data.class_weights import class_factors
from descend.errors import DataError

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(90, 3))
CLASSES = (RANDOM.random(90) < 0.2).astype(int) + (X[:, 0] > 1)
OF_CLASS = {0: 0.5, 1: 4.0, 2: 2.5}
BASE: dict[str, Any] = {
    "data": {"scale": "none", "validation": 0.0, "test": 0.0, "batch_size": 30},
    "model": {"hidden": [4]},
    "stop": {"max_epochs": 3},
}


def with_weights(weights: Any) -> descend.Recipe:
    return descend.Recipe(**BASE).replace({"data.class_weights": weights})


def test_balanced_factors_are_those_of_scikit_learn() -> None:
    labels = np.array(["a", "b", "c"])
    rows = labels[CLASSES]
    mass = np.bincount(CLASSES).astype(float)
    expected = compute_class_weight("balanced", classes=labels, y=rows)
    np.testing.assert_allclose(class_factors("balanced", list(labels), mass), expected, rtol=1e-15)


@pytest.mark.parametrize("loss", ["bce", "cross_entropy", "focal"])
@pytest.mark.parametrize("form", [dict, list])
def test_training_equals_that_with_weights_of_rows(loss: str, form: type) -> None:
    targets = CLASSES if loss != "bce" else CLASSES.clip(max=1)
    table: dict[str, float] = {str(label): OF_CLASS[label] for label in np.unique(targets).tolist()}
    by_class = with_weights(table if form is dict else tuple(table.values())).replace({"loss.name": loss})
    rows = np.array([OF_CLASS[label] for label in targets.tolist()])
    by_row = descend.Recipe(**BASE).replace({"loss.name": loss})
    first = descend.train((X, targets), by_class, seed=1)
    second = descend.train((X, targets), by_row, seed=1, sample_weight=rows)
    plain = descend.train((X, targets), by_row, seed=1)
    outputs = [run.predict_proba(X) for run in (first, second, plain)]
    assert np.array_equal(outputs[0], outputs[1])
    assert np.abs(outputs[0] - outputs[2]).max() > 1e-3


def test_they_multiply_the_weights_of_rows() -> None:
    own = RANDOM.random(90) + 0.1
    rows = own * np.array([OF_CLASS[label] for label in CLASSES.tolist()])
    table = {str(label): weight for label, weight in OF_CLASS.items()}
    first = descend.train((X, CLASSES), with_weights(table), sample_weight=own)
    second = descend.train((X, CLASSES), BASE, sample_weight=rows)
    np.testing.assert_allclose(first.predict_proba(X), second.predict_proba(X), rtol=1e-5)


def test_packs_equal_solo_runs() -> None:
    recipes = [with_weights({"1": 3.0}).replace({"optimizer.lr": lr}) for lr in (1e-3, 1e-2)]
    packed = descend.train_many(recipes, (X, CLASSES), engine="packed", progress=False)
    for recipe, run in zip(recipes, packed, strict=True):
        solo = descend.train((X, CLASSES), recipe)
        np.testing.assert_allclose(run.predict_proba(X), solo.predict_proba(X), atol=2e-5)


@pytest.mark.parametrize(
    ("labels", "name"),
    [([0, 1], "1"), ([0.0, 1.0], "1"), ([False, True], "true"), (["0", "1"], "1"), (["no", "yes"], "yes")],
)
def test_classes_by_name(labels: list[Any], name: str) -> None:
    assert class_factors({name: 3.0}, labels, np.ones(2)).tolist() == [1.0, 3.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"yse": 2.0}, r"data.class_weights: no class 'yse'; did you mean 'yes'\?"),
        ((1.0, 2.0, 3.0), "expected one weight for each of the 2 classes, 'no', 'yes', got 3"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        class_factors(weights, ["no", "yes"], np.ones(2))


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (X[:, 0], "the task is regression"),
        (np.column_stack([X[:, 0] > 0, X[:, 1] > 0]), "for labels: .*pos_weight"),
    ],
)
def test_tasks_without_classes_are_refused(targets: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        descend.train((X, targets), {"data.class_weights": "balanced"})


def test_probabilities_are_those_of_the_weighted_classes() -> None:
    # One input for all rows: the best probability of class 1 is its share of the weights.
    inputs = torch.zeros(80, 1).numpy()
    inputs[::2] = 1.0
    targets = np.arange(80) % 8 // 6  # a quarter in class 1, independent of the input
    recipe = {
        "data": {"validation": 0.0, "test": 0.0, "class_weights": {"1": 9.0}, "sampling": "full"},
        "model": "linear",
        "loss": {"label_smoothing": 0.0},
        "optimizer": {"name": "lbfgs"},
        "stop": {"max_epochs": 15},
    }
    predicted = descend.train((inputs, targets), recipe).predict_proba(inputs)[:, 1]
    np.testing.assert_allclose(predicted, 9 * 20 / (9 * 20 + 60), atol=1e-3)
