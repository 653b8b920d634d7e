"""The regressor as a scikit-learn estimator."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multioutput import MultiOutputRegressor

from descend import Regressor

QUICK = {"hidden": 16, "lr": 0.01, "max_epochs": 12, "random_state": 0}
X, Y = load_diabetes(return_X_y=True)


@pytest.mark.slow
def test_defaults():
    model = Regressor(random_state=0)
    assert cross_val_score(model, X, Y, cv=3).mean() > 0.4
    fitted = model.fit(X, Y)
    assert fitted.predict(X).dtype == np.float64
    assert fitted.score(X, Y) == pytest.approx(r2_score(Y, fitted.predict(X)))
    assert np.allclose(fitted.run_.predict(X), fitted.predict(X), rtol=1e-3)


def test_units_do_not_matter():
    """Targets are standardized: other units give the same network, and predictions in these units."""
    one, other = Regressor(**QUICK).fit(X, Y), Regressor(**QUICK).fit(X, Y * 1024 - 2**20)
    assert np.allclose(other.predict(X), one.predict(X) * 1024 - 2**20, rtol=1e-6)


@pytest.mark.slow
def test_several_targets():
    targets = np.column_stack([Y, X[:, 0], -Y])
    model = Regressor(hidden=32, lr=0.01, random_state=0).fit(X, targets)
    predicted = model.predict(X)
    assert predicted.shape == targets.shape
    assert model.score(X, targets) > 0.4
    assert np.corrcoef(predicted[:, 0], predicted[:, 2])[0, 1] < -0.95
    frame = pd.DataFrame(targets, columns=["a", "b", "c"])
    for form in (frame, pl.from_pandas(frame)):
        named = Regressor(hidden=32, lr=0.01, random_state=0).fit(X, form)
        assert np.array_equal(named.predict(X), predicted)
        assert named.run_.schema.target_names == ("a", "b", "c")
    assert MultiOutputRegressor(Regressor(**QUICK)).fit(X, targets).predict(X).shape == targets.shape


@pytest.mark.slow
def test_forms_of_one_target():
    expected = Regressor(**QUICK).fit(X, Y).predict(X)
    for form in (Y.tolist(), pd.Series(Y, name="progress"), pl.Series("progress", Y), Y.astype(object)):
        model = Regressor(**QUICK).fit(X, form)
        assert np.array_equal(model.predict(X), expected)
        if hasattr(form, "name"):
            assert model.run_.schema.target_names == ("progress",)
    with pytest.warns(match="column-vector"):
        model = Regressor(**QUICK).fit(X, Y[:, None])
    assert np.array_equal(model.predict(X), expected)


@pytest.mark.slow
def test_weights_reach_the_weighted_optimum():
    """Against least squares in closed form; weighted averages within small batches would be far from it."""
    rng = np.random.default_rng(0)
    features, heavy = rng.normal(size=(200, 2)), np.arange(200) < 20
    y = np.where(heavy, features @ [2.0, -1.0] + 1, features @ [-1.0, 1.0] - 1) + 0.1 * rng.normal(size=200)
    weights = np.where(heavy, 50.0, 1.0)
    model = Regressor(
        recipe={"model": {"name": "linear"}, "data": {"clip": "none"}},
        optimizer="adam",
        lr=0.01,
        schedule="cosine",
        batch_size=16,
        max_epochs=60,
        validation_fraction=0,
        random_state=0,
    )
    grid = rng.normal(size=(50, 2))
    expected = LinearRegression().fit(features, y, weights).predict(grid)
    predicted = clone(model).fit(features, y, weights).predict(grid)
    assert np.abs(predicted - expected).max() < 0.05
    unweighted = LinearRegression().fit(features, y).predict(grid)
    assert np.abs(unweighted - expected).max() > 1.0


@pytest.mark.parametrize("n", [30, 120])
def test_a_weight_is_bit_identical_to_a_repetition(n):
    rng = np.random.default_rng(n)
    features, y, counts = rng.normal(size=(n, 2)).round(1), rng.normal(size=(n, 2)), rng.integers(0, 4, n)
    model = Regressor(hidden=8, dropout=0.1, max_epochs=5, random_state=0)
    rows = rng.permutation(np.repeat(np.arange(n), counts))
    repeated = clone(model).fit(features[rows], y[rows])
    weighted = clone(model).fit(features, y, sample_weight=counts)
    assert np.array_equal(repeated.predict(features), weighted.predict(features))
    assert repeated.loss_curve_ == weighted.loss_curve_


def test_copies_of_a_row_do_not_leak_into_validation():
    rng = np.random.default_rng(0)
    features, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    model = Regressor(**QUICK, validation_fraction=0.3).fit(np.tile(features, (5, 1)), np.tile(y, 5))
    assert model.run_.schema.rows == {"train": 42, "validation": 18, "test": 0}


@pytest.mark.slow
def test_grid_search_and_missing_values():
    holed = X.copy()
    holed[np.random.default_rng(0).random(X.shape) < 0.05] = np.nan
    search = GridSearchCV(
        Regressor(max_epochs=10, random_state=0), {"lr": [1e-6, 0.01], "hidden": [8, (8, 8)]}, cv=2
    )
    search.fit(holed, Y)
    assert search.best_params_["lr"] == 0.01
    assert search.best_score_ > 0.2


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.full(442, 3.0), "in every row"),
        (np.array(["a", "b"] * 221), "could not convert string|numeric"),
        (np.r_[np.nan, np.ones(441)], "NaN"),
        (np.r_[np.inf, np.ones(441)], "infinity"),
        (None, "requires y to be passed"),
    ],
)
def test_bad_targets(y, message):
    with pytest.raises(ValueError, match=message):
        Regressor(**QUICK).fit(X, y)


def test_predictions_do_not_depend_on_the_other_rows():
    model = Regressor(**QUICK).fit(X, Y)
    together = model.predict(X[:50])
    separate = np.concatenate([model.predict(X[row : row + 1]) for row in range(50)])
    assert np.allclose(together, separate, rtol=1e-13)
    assert all(p.dtype == torch.float32 for p in model.model_.parameters())
