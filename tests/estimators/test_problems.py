"""Messages of estimators name their parameters."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import descend
from descend import Classifier, Regressor, Search
from descend.errors import DivergedError, RecipeError, UserError

X = np.random.default_rng(0).normal(size=(60, 3))
CLASSES = (X[:, 0] > 0).astype(int)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"lr": -1}, "  lr: expected a number above 0, got -1"),
        ({"optimizer": "adm"}, "  optimizer: no such optimizer 'adm'; did you mean 'adam'?"),
        ({"optimizer": {"name": "sgd", "lrr": 1}}, "  optimizer: lrr: unknown key of 'sgd'; did you mean 'lr'?"),
        ({"activation": {"name": "elu", "alpha": "x"}}, "  activation.alpha: expected a number"),
        ({"validation_fraction": 1.5}, "  validation_fraction: expected a number >= 0 and below 1, got 1.5"),
        ({"patience": -1}, "  patience: expected an integer >= 1"),
        ({"batch_size": 1, "norm": "batch"}, "  batch_size: 'norm1' (BatchNorm1d) has no statistics"),
        ({"device": "tpu"}, "  device: the device 'tpu' is not available"),
        ({"recipe": {"stop": {"max_epoch": 1}}}, "  recipe: [stop] max_epoch: unknown key"),
        ({"recipe": {"optimizer.lr": -1}}, "  recipe: [optimizer] lr: expected a number above 0"),
        ({"recipe": {"data.weights": "w"}}, "columns; pass weights as fit(X, y, sample_weight=...)"),
        ({"recipe": {"data.groups": "g"}}, "columns; pass groups to Search.fit"),
        ({"recipe": {"loss": "mse"}}, "if the targets are numbers: descend.Regressor"),
    ],
)  # fmt: skip
def test_problems_of_a_recipe(parameters: dict[str, Any], expected: str) -> None:
    estimator = Classifier(**{"hidden": 4, "max_epochs": 1, **parameters})
    with pytest.raises(RecipeError) as caught:
        estimator.fit(X, CLASSES)
    assert str(caught.value).startswith("The Classifier has a problem:\n")
    assert expected in str(caught.value)


def test_all_problems_at_once() -> None:
    with pytest.raises(
        RecipeError, match=r"has 2 problems:\n  recipe: \[stop\] patiense: unknown key; .*\n  lr: expected"
    ):
        Regressor(lr=-1, recipe={"stop.patiense": 3}).fit(X, X[:, 0])


def test_of_the_estimator_of_a_search() -> None:
    with pytest.raises(RecipeError, match=r"The Classifier has a problem:\n  dropout: expected"):
        Search(Classifier(dropout=2.0), {"optimizer.lr": [0.1]}, n_trials=1, cv=2).fit(X, CLASSES)


def test_partial_fit_trains_one_network() -> None:
    with pytest.raises(
        RecipeError, match='preset: partial_fit trains one network, pass by pass; use fit, or "quick"'
    ):
        Classifier(preset="good").partial_fit(X, CLASSES, classes=[0, 1])


def test_remedies() -> None:
    diverging = Regressor(hidden=4, optimizer="sgd", lr=1e30, max_epochs=3, random_state=0)
    with pytest.raises(DivergedError) as caught:
        diverging.fit(X, X[:, 0])
    assert "  a lower learning rate: lr=" in str(caught.value)
    assert "  gradient clipping: recipe={'gradient.clip_norm': 1.0}" in str(caught.value)
    with pytest.raises(UserError, match=r"use recipe=\{'loss.name': 'mse'\}"):
        Regressor(hidden=4, max_epochs=1, recipe={"loss": "poisson"}).fit(X, X[:, 0])
    with pytest.raises(UserError, match=r"return_std needs .*: recipe=\{'loss': 'gaussian'\}"):
        Regressor(hidden=4, max_epochs=1).fit(X, X[:, 0]).predict(X, return_std=True)
    with pytest.raises(UserError, match="sample_weight: expected one number per row, got the string 'w'"):
        Classifier().fit(X, CLASSES, sample_weight="w")


def test_the_words_end_with_the_call() -> None:
    with pytest.raises(RecipeError):
        Classifier(lr=-1).fit(X, CLASSES)
    with pytest.raises(RecipeError, match=r"The recipe has a problem:\n  \[optimizer\] lr: expected"):
        descend.train((X, CLASSES), {"optimizer.lr": -1})


def test_a_missing_column_of_weights_is_named_as_it_was_specified() -> None:
    table = {"a": [1.0, 2.0, 3.0], "b": [1.0, 2.0, 3.0]}
    with pytest.raises(UserError, match="data: sample_weight: no column 'w'"):
        descend.train(table, target="b", sample_weight="w")
    with pytest.raises(UserError, match="iris: sample_weight: no column 'w'"):
        descend.train("iris", sample_weight="w")
    with pytest.raises(UserError, match=r"data: data\.weights: no column 'w'"):
        descend.train(table, {"data.weights": "w"}, target="b")
