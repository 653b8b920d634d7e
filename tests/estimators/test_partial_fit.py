"""Training with ``partial_fit``."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LinearRegression

import descend
from descend import Classifier, Regressor
from descend.errors import UserError

X, Y = load_digits(return_X_y=True)
CLASSES = np.arange(10)


def same_weights(one, other) -> bool:
    first, second = one.model_.state_dict(), other.model_.state_dict()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_learns_from_pieces():
    model = Classifier(hidden=64, lr=0.005, random_state=0)
    for _ in range(3):
        for start in range(0, 1200, 200):
            piece = slice(start, start + 200)
            assert model.partial_fit(X[piece], Y[piece], classes=CLASSES) is model
    assert model.score(X[1200:], Y[1200:]) > 0.85
    assert model.n_iter_ == len(model.history_) == 18
    assert [record["epoch"] for record in model.history_] == list(range(1, 19))
    losses = model.loss_curve_
    assert np.mean(losses[-6:]) < 0.5 * np.mean(losses[:3])


@pytest.mark.slow
def test_classes_need_not_occur_at_first():
    model = Classifier(hidden=16, lr=0.02, random_state=0)
    for label in range(10):
        rows = label == Y
        model.partial_fit(X[rows], Y[rows], classes=CLASSES)
    assert model.classes_.tolist() == CLASSES.tolist()
    assert model.predict_proba(X).shape == (1797, 10)
    strings = Classifier(hidden=4).partial_fit(X[:20], ["b"] * 20, classes=["b", "a"])
    assert strings.predict(X[:3]).dtype == np.dtype("<U1")


@pytest.mark.slow
@pytest.mark.parametrize("average", [0.0, 3.0])
def test_passes_are_bit_identical_with_a_copy_in_between(average):
    """Optimizer, averages, step counters and random streams continue from their state."""
    recipe = {"stop": {"average": average}}
    one = Classifier(hidden=16, dropout=0.2, random_state=0, recipe=recipe)
    other = Classifier(hidden=16, dropout=0.2, random_state=0, recipe=recipe)
    for start in range(0, 500, 100):
        piece = slice(start, start + 100)
        one.partial_fit(X[piece], Y[piece], classes=CLASSES)
        other = pickle.loads(pickle.dumps(copy.deepcopy(other))).partial_fit(
            X[piece], Y[piece], classes=CLASSES
        )
    assert same_weights(one, other)
    # A fresh optimizer gives another result, so that equality shows that it was kept.
    other._state = None
    one.partial_fit(X[:100], Y[:100])
    other.partial_fit(X[:100], Y[:100])
    assert not same_weights(one, other)


def test_each_pass_is_one_epoch_of_plain_training():
    """Three passes over the same rows against ``descend.train`` on them, which uses another path through the loop."""
    sections = {
        "model": {"hidden": (8,)},
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
        "schedule": {"name": "constant", "warmup": 0.0},
        "stop": {"max_epochs": 3, "average": 0.0, "patience": None},
        "data": {"batch_size": 32, "test": 0.0, "validation": 0.0, "task": "classification"},
        "engine": {"threads": 1},
    }
    whole = descend.train((X[:200], Y[:200]), descend.Recipe(**sections), seed=0)
    model = Classifier(random_state=0, recipe=sections)
    constant = {column.name for column in whole.schema.columns if not column.used}
    kept = [
        at for at in range(64) if f"x{at}" not in constant
    ]  # passes keep columns that are constant so far
    for _ in range(3):
        model.partial_fit(X[:200, kept], Y[:200], classes=CLASSES)
    assert [r["train"]["loss"] for r in whole.history] == pytest.approx(model.loss_curve_, rel=1e-5)


def test_constant_columns_are_kept():
    features = np.column_stack([np.zeros(40), np.linspace(-1, 1, 40)])
    model = Regressor(hidden=8, random_state=0).partial_fit(features, features[:, 1])
    assert [column.used for column in model.run_.schema.columns] == [True, True]
    assert not Regressor(hidden=8, max_epochs=1).fit(features, features[:, 1]).run_.schema.columns[0].used


@pytest.mark.slow
def test_weights_affect_passes():
    rng = np.random.default_rng(0)
    features, heavy = rng.normal(size=(400, 1)), np.arange(400) % 10 == 0
    y = np.where(heavy, 2.0, -1.0) * features[:, 0]
    weights = np.where(heavy, 50.0, 1.0)
    recipe = {"model": {"name": "linear"}, "data": {"clip": "none"}}
    model = Regressor(recipe=recipe, optimizer="sgd", lr=0.05, random_state=0)
    for _ in range(40):
        model.partial_fit(features, y, sample_weight=weights)
    slope = np.diff(model.predict([[0.0], [1.0]]))[0]
    assert slope == pytest.approx(LinearRegression().fit(features, y, weights).coef_[0], abs=0.15)
    with_nothing = model.partial_fit(features, y, sample_weight=heavy.astype(float))
    assert with_nothing.n_iter_ == 41


def test_continues_after_fit():
    features, labels = load_iris(return_X_y=True)
    model = Classifier(hidden=16, lr=0.01, max_epochs=10, random_state=0).fit(features, labels)
    before = model.score(features, labels)
    weights = copy.deepcopy(model.model_.state_dict())
    model.partial_fit(features, labels)
    assert model.n_iter_ == 11
    assert model.score(features, labels) >= before - 0.1
    moved = max((weights[k] - v).abs().max() for k, v in model.model_.state_dict().items())
    assert 0 < moved < 0.3  # continued from the fitted weights, not from new ones
    model.fit(features, labels)
    assert model.n_iter_ == 10


def test_single_rows():
    model = Regressor(hidden=4, random_state=0).partial_fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    for value in (0.5, 1.5):
        model.partial_fit([[value]], [value])
    assert model.n_iter_ == 3
    with pytest.raises(ValueError, match="1 sample"):
        Regressor().partial_fit([[0.0]], [0.0])
    normalized = Regressor(hidden=4, norm="batch").partial_fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="batch normalization"):
        normalized.partial_fit([[0.5]], [0.5])


def test_frames_and_new_categories():
    frame = pd.DataFrame({"c": ["a", "b"] * 20, "n": np.arange(40.0)})
    y = np.arange(40) % 2
    model = Classifier(hidden=8, random_state=0).partial_fit(frame, y, classes=[0, 1])
    later = pd.DataFrame({"c": ["z", None], "n": [np.nan, 3.0]})
    model.partial_fit(later, [0, 1])
    assert np.isfinite(model.predict_proba(later)).all()
    with pytest.raises(ValueError, match="feature names"):
        model.partial_fit(frame[["n", "c"]], y)


def test_a_specified_schedule_is_used():
    model = Classifier(
        hidden=4, lr=0.1, schedule={"name": "exponential", "beta": 0.5, "per": "epoch"}, random_state=0
    )
    for _ in range(3):
        model.partial_fit(X[:100], Y[:100], classes=CLASSES)
    rates = [record["lr"] for record in model.history_]
    assert rates[0] > rates[1] > rates[2]


def test_invalid_classes_and_features():
    model = Classifier(hidden=4, random_state=0)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        model.partial_fit(X, Y)
    with pytest.raises(ValueError, match="at least two classes"):
        model.partial_fit(X, Y, classes=[0])
    with pytest.raises(ValueError, match="not among the classes"):
        model.partial_fit(X, Y, classes=[0, 1])
    model.partial_fit(X, Y, classes=CLASSES)
    with pytest.raises(ValueError, match="as in the first call"):
        model.partial_fit(X, Y, classes=[0, 1])
    with pytest.raises(ValueError, match="64 features"):
        model.partial_fit(X[:, :5], Y)


def test_divergence_restores_the_network():
    features = np.linspace(-1, 1, 64)[:, None]
    model = Regressor(hidden=8, activation="relu", random_state=0).partial_fit(features, features[:, 0])
    before = copy.deepcopy(model.model_.state_dict())
    with pytest.raises(descend.errors.DivergedError, match="restored"):
        model.partial_fit(features, features[:, 0] * 1e30)
    assert all(torch.equal(before[name], value) for name, value in model.model_.state_dict().items())
    assert model.n_iter_ == 1


def test_mean_targets_of_categories_are_refused_because_later_rows_would_change_them():
    frame = pd.DataFrame({"city": ["a", "b", "c", "d"] * 20, "x": np.arange(80) % 7})
    y = np.arange(80) % 9 / 2
    model = Regressor(recipe={"data": {"categories": "target"}}, max_epochs=1)
    with pytest.raises(
        UserError, match=r"partial_fit: the column 'city' is encoded by its mean target.*call fit first"
    ):
        model.partial_fit(frame, y)
    model.fit(frame, y).partial_fit(frame, y)
