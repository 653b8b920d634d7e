"""Estimators with ``model.ensemble`` and ``init.restarts``."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GridSearchCV

from descend import Classifier, Regressor
from descend.errors import RecipeError
from descend.nn.ensemble import Ensemble

ENSEMBLE: dict[str, Any] = {"model": {"ensemble": 3}}
RESTARTS: dict[str, Any] = {"init": {"restarts": 3}}
BOTH: dict[str, Any] = {"init": {"restarts": 4}, "model": {"ensemble": 2}}


@pytest.fixture(scope="module")
def iris() -> Any:
    return load_iris(return_X_y=True)


def classifier(recipe: dict[str, Any], **parameters: Any) -> Classifier:
    return Classifier(recipe=recipe, hidden=8, max_epochs=3, random_state=0, **parameters)


@pytest.mark.parametrize(("recipe", "trained", "kept"), [(ENSEMBLE, 3, 3), (RESTARTS, 3, 1), (BOTH, 4, 2)])
def test_the_best_networks_are_kept(iris: Any, recipe: dict[str, Any], trained: int, kept: int) -> None:
    X, y = iris
    recipe = recipe | {"model": {**recipe.get("model", {}), "calibration": "none"}}
    model = classifier(recipe).fit(X, y)
    members = model.run_.metrics["members"]
    values = members["validation"]
    assert len(values) == trained
    assert members["kept"] == sorted(range(trained), key=lambda at: values[at])[:kept]
    assert isinstance(model.model_, Ensemble) == (kept > 1)
    probabilities = model.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-12)
    solo = []
    for number in members["kept"]:
        alone = {name: dict(values) for name, values in recipe.items()}
        alone |= {"init": {"sample_index": number}, "model": {"calibration": "none"}}
        solo.append(classifier(alone).fit(X, y).predict_proba(X))
    np.testing.assert_allclose(probabilities, np.mean(solo, axis=0), atol=1e-6)


@pytest.mark.parametrize("recipe", [ENSEMBLE, RESTARTS], ids=["ensemble", "restarts"])
def test_fits_copies_and_weights_are_bit_identical(iris: Any, recipe: dict[str, Any]) -> None:
    X, y = iris
    model = classifier(recipe).fit(X, y)
    expected = model.predict_proba(X)
    assert np.array_equal(clone(model).fit(X, y).predict_proba(X), expected)
    assert np.array_equal(pickle.loads(pickle.dumps(model)).predict_proba(X), expected)
    weights = np.where(np.arange(len(X)) % 2, 1.0, 2.0)
    weighted = clone(model).fit(X, y, sample_weight=weights)
    repeated = clone(model).fit(np.concatenate([X, X[::2]]), np.concatenate([y, y[::2]]))
    assert np.array_equal(weighted.predict_proba(X), repeated.predict_proba(X))
    assert not np.array_equal(weighted.predict_proba(X), expected)


def test_grid_search_and_regression(iris: Any) -> None:
    X, y = iris
    grid = GridSearchCV(classifier({}), {"recipe": [ENSEMBLE, RESTARTS]}, cv=2).fit(X, y)
    assert grid.best_params_["recipe"] in (ENSEMBLE, RESTARTS)
    X, y = load_diabetes(return_X_y=True)
    regressor = Regressor(recipe=ENSEMBLE, hidden=8, max_epochs=3, random_state=0).fit(X, y)
    assert len(regressor.model_.members) == 3
    assert regressor.n_iter_ == len(regressor.history_) == 3
    assert regressor.predict(X).shape == y.shape


@pytest.mark.parametrize(("recipe", "key"), [(ENSEMBLE, "ensemble"), (RESTARTS, "restarts")])
def test_partial_fit_is_refused_with_the_reason(iris: Any, recipe: dict[str, Any], key: str) -> None:
    X, y = iris
    for model in (classifier(recipe), classifier(recipe).fit(X, y)):
        with pytest.raises(RecipeError, match=rf"{key}: partial_fit trains one network, pass by pass"):
            model.partial_fit(X, y, classes=[0, 1, 2])


def test_few_rows_have_no_validation_part_to_choose_by() -> None:
    X, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    with pytest.raises(RecipeError, match="no validation rows to select the best network on"):
        classifier(RESTARTS).fit(X, y)
    assert classifier(ENSEMBLE).fit(X, y).predict(X).shape == (20,)
