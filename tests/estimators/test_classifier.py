"""The classifier as a scikit-learn estimator."""

from __future__ import annotations

import copy
import io
import pickle
from contextlib import nullcontext
from typing import Any

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import descend
from descend import Classifier

QUICK = {"hidden": 16, "lr": 0.01, "max_epochs": 8, "random_state": 0}
IRIS = load_iris(return_X_y=True)


def same_weights(one: Classifier, other: Classifier) -> bool:
    first, second = one.model_.state_dict(), other.model_.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def table(n: int = 120, seed: int = 0) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    color = rng.choice(["red", "green", "blue"], n)
    size = rng.normal(size=n)
    y = np.where((color == "red") ^ (size > 0.5), "yes", "no")
    size[rng.random(n) < 0.1] = np.nan
    missing: Any = None
    shape = pd.Categorical(np.where(rng.random(n) < 0.1, missing, rng.choice(["round", "long"], n)))
    frame = pd.DataFrame({"color": color, "size": size, "shape": shape, "new": rng.random(n) < 0.5})
    return frame, y


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes"]),
        np.array(["no", "yes"], dtype=object),
        np.array([3, 7], dtype=np.int8),
        np.array([3, 7, 9], dtype=np.uint16),
        np.array([False, True]),
        np.array([1.0, 2.0, 5.0], dtype=np.float32),
        np.array([-1, 10], dtype=object),
        np.array([b"a", b"bc"]),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_labels_keep_their_dtype(labels):
    X, y = IRIS
    y = labels[y % len(labels)]
    model = Classifier(**QUICK).fit(X, y)
    assert model.classes_.dtype == labels.dtype
    assert model.classes_.tolist() == labels.tolist()
    predicted = model.predict(X)
    assert predicted.dtype == labels.dtype
    assert (predicted == y).mean() > 0.5
    if labels.dtype.kind not in "OS" or isinstance(labels[0], str):  # scikit-learn's metrics take no others
        assert model.score(X, y) == (predicted == y).mean()
    assert np.array_equal(model.run_.predict(X), predicted)


@pytest.mark.slow
def test_series_and_categories_as_labels():
    X, y = IRIS
    strings = np.array(["a", "b", "c"])[y]
    expected = Classifier(**QUICK).fit(X, strings).predict(X)
    for form in (
        pd.Series(strings),
        pd.Series(pd.Categorical(strings)),
        pl.Series(strings),
        strings.tolist(),
        pd.DataFrame({"y": strings}),
    ):
        with pytest.warns(match="column-vector") if isinstance(form, pd.DataFrame) else nullcontext():
            assert np.array_equal(Classifier(**QUICK).fit(X, form).predict(X), expected)


def test_probabilities():
    X, y = IRIS
    for classes in (2, 3):
        model = Classifier(**QUICK).fit(X[y < classes], y[y < classes])
        predicted = model.predict_proba(X)
        assert predicted.shape == (150, classes)
        assert predicted.dtype == np.float64
        assert np.allclose(predicted.sum(1), 1, atol=1e-12)
        assert np.array_equal(model.classes_[predicted.argmax(1)], model.predict(X))
        assert np.allclose(model.predict_log_proba(X), np.log(predicted))
        assert np.allclose(model.run_.predict_proba(X), predicted, atol=1e-5)


# Tables


@pytest.mark.slow
def test_mixed_columns_of_pandas_and_polars():
    X, y = table()
    model = Classifier(hidden=32, lr=0.01, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.9
    assert model.feature_names_in_.tolist() == list(X.columns)
    assert model.n_features_in_ == 4
    kinds = {column.name: column.kind for column in model.run_.schema.columns}
    assert kinds == {"color": "categorical", "size": "numeric", "shape": "categorical", "new": "boolean"}
    other = pl.from_pandas(X)
    assert same_weights(Classifier(hidden=32, lr=0.01, random_state=0).fit(other, y), model)
    assert np.array_equal(model.predict_proba(other), model.predict_proba(X))
    assert np.array_equal(model.predict_proba(other.to_arrow()), model.predict_proba(X))


def test_unseen_categories_and_missing_values_at_prediction():
    X, y = table()
    model = Classifier(**QUICK).fit(X, y)
    new = X.iloc[:3].copy().astype({"shape": object})
    new["color"] = ["violet", None, "red"]
    new["shape"] = ["square", "long", np.nan]
    new["size"] = np.nan
    predicted = model.predict_proba(new)
    assert np.isfinite(predicted).all()
    # Unseen categories are equivalent to each other.
    none = new.iloc[[0, 0]].copy()
    none["color"] = ["violet", "purple"]
    first, second = model.predict_proba(none)
    assert np.allclose(first, second, rtol=1e-12)


def test_object_arrays_of_strings_and_numbers():
    X, y = table()
    cells = X[["color", "size"]].to_numpy(dtype=object)
    model = Classifier(hidden=32, lr=0.01, random_state=0).fit(cells, y)
    assert model.score(cells, y) > 0.85
    assert not hasattr(model, "feature_names_in_")
    assert [column.kind for column in model.run_.schema.columns] == ["categorical", "numeric"]
    cells[3, 1] = {"a": 1}
    with pytest.raises(ValueError, match="row 3 holds a dict"):
        clone(model).fit(cells, y)


def test_columns_by_name_and_by_position():
    X, y = IRIS
    names = ["a", "b", "c", "d"]
    named = Classifier(**QUICK).fit(pd.DataFrame(X, columns=names), y)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        by_position = named.predict_proba(X)
    assert np.array_equal(by_position, named.predict_proba(pd.DataFrame(X, columns=names)))
    with pytest.raises(ValueError, match="same order"):
        named.predict(pd.DataFrame(X, columns=names[::-1]))
    numbered = Classifier(**QUICK).fit(pd.DataFrame(X, columns=[7, 8, 9, 10]), y)
    assert same_weights(numbered, named)  # only the content matters
    assert np.array_equal(numbered.predict_proba(pd.DataFrame(X)), by_position)
    assert np.array_equal(numbered.predict_proba(X), by_position)


def test_images():
    X, y = load_digits(return_X_y=True)
    X, y = (X.reshape(-1, 8, 8) * 15).astype(np.uint8)[:200], y[:200]
    model = Classifier(recipe={"model": {"channels": (4,)}}, lr=0.02, max_epochs=8, random_state=0).fit(X, y)
    assert model.recipe_.get("model.name") == "convnet"
    assert model.score(X, y) > 0.5
    assert model.set_params(max_epochs=1).fit(X[:50], y[:50]).predict_proba(X).shape == (200, 10)


# Weights


def with_counts(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X, y = rng.normal(size=(n, 3)), rng.integers(0, 3, n)
    X[: n // 4] = np.round(X[: n // 4])
    return X, y, rng.integers(0, 4, n)


@pytest.mark.parametrize("sampling", ["epoch", "with_replacement", "full"])
@pytest.mark.parametrize("n", [25, 150])  # without and with a validation part
def test_a_weight_is_bit_identical_to_a_repetition(n, sampling):
    X, y, counts = with_counts(n, n)
    model = Classifier(
        hidden=8, dropout=0.2, max_epochs=6, random_state=3, recipe={"data": {"sampling": sampling}}
    )
    rows = np.random.default_rng(0).permutation(np.repeat(np.arange(n), counts))
    repeated = clone(model).fit(X[rows], y[rows])
    weighted = clone(model).fit(X, y, sample_weight=counts * 0.5)
    assert ("validation" in weighted.history_[0]) == (n == 150)
    assert same_weights(repeated, weighted)
    for one, other in zip(repeated.history_, weighted.history_, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}
    assert not same_weights(clone(model).fit(X, y), weighted)  # weights have an effect


def test_the_order_of_rows_does_not_matter():
    X, y = IRIS
    order = np.random.default_rng(0).permutation(len(y))
    assert same_weights(Classifier(**QUICK).fit(X, y), Classifier(**QUICK).fit(X[order], y[order]))
    assert not same_weights(
        Classifier(**QUICK).fit(X, y), Classifier(**(QUICK | {"random_state": 1})).fit(X, y)
    )


@pytest.mark.slow
def test_weights_reach_the_weighted_optimum():
    """A few heavy rows among many light ones, against logistic regression by another method."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    heavy = np.arange(200) < 20
    logits = np.where(heavy, X @ [2.0, -1.0], X @ [-1.0, 1.0])
    y = (rng.random(200) < 1 / (1 + np.exp(-logits))).astype(int)
    weights = np.where(heavy, 40.0, 1.0)
    expected = LogisticRegression(C=np.inf, tol=1e-8).fit(X, y, weights)
    model = Classifier(
        recipe={"model": {"name": "linear"}, "loss": {"label_smoothing": 0.0}, "data": {"clip": "none"}},
        optimizer="adam",
        lr=0.01,
        schedule="cosine",
        batch_size=16,
        max_epochs=60,
        validation_fraction=0,
        random_state=0,
    ).fit(X, y, weights)
    assert np.abs(model.predict_proba(X) - expected.predict_proba(X)).max() < 0.02
    # Negative control: without weights the result differs by much more than the bound.
    plain = LogisticRegression(C=np.inf).fit(X, y)
    assert np.abs(plain.predict_proba(X) - expected.predict_proba(X)).max() > 0.3


def test_classes_without_weight_are_ignored():
    X, y = IRIS
    model = Classifier(**QUICK).fit(X, y, sample_weight=(y != 1).astype(float))
    assert model.classes_.tolist() == [0, 2]
    assert same_weights(model, Classifier(**QUICK).fit(X[y != 1], y[y != 1]))
    with pytest.raises(
        ValueError, match="every row with a weight above 0 has the class 2; at least two classes"
    ):
        Classifier(**QUICK).fit(X, y, sample_weight=(y == 2).astype(float))


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(150), "zero in every row"),
        (-np.ones(150), "0 or more"),
        (np.ones(149), "inconsistent numbers of samples"),
        (np.full(150, np.nan), "NaN"),
        (np.ones((150, 1)), "one number per row"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        Classifier(**QUICK).fit(*IRIS, sample_weight=weights)


# Conventions


def test_fits_are_bit_identical():
    X, y = IRIS
    state = torch.get_rng_state()
    model = Classifier(**QUICK, dropout=0.3).fit(X, y)
    torch.manual_seed(123)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        again = clone(model).fit(X, y)
    finally:
        torch.set_num_threads(before)
    assert same_weights(model, again)
    assert model.recipe_.get("engine.threads") == 1
    torch.set_rng_state(state)
    clone(model).fit(X, y)
    assert torch.equal(torch.get_rng_state(), state)


def test_random_state():
    X, y = IRIS
    np.random.seed(5)  # noqa: NPY002 - the generator that random_state=None uses
    first = Classifier(**(QUICK | {"random_state": None})).fit(X, y)
    second = Classifier(**(QUICK | {"random_state": None})).fit(X, y)
    assert not same_weights(first, second)
    seed = first.run_.environment["seed"]
    assert same_weights(first, Classifier(**(QUICK | {"random_state": seed})).fit(X, y))
    generator = np.random.RandomState(3)
    assert not same_weights(
        Classifier(**(QUICK | {"random_state": generator})).fit(X, y),
        Classifier(**(QUICK | {"random_state": generator})).fit(X, y),
    )


@pytest.mark.slow
def test_large_networks_use_the_threads_of_the_process():
    X, y = (each[:200] for each in load_digits(return_X_y=True))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        model = Classifier(hidden=(1024, 1024), max_epochs=1, random_state=0).fit(X, y)
        fixed = Classifier(hidden=8, max_epochs=1, recipe={"engine": {"threads": 2}}).fit(X, y)
    finally:
        torch.set_num_threads(before)
    assert model.recipe_.get("engine.threads") == 2
    assert "multiplications per step" in model.run_.reasons["engine.threads"]
    assert fixed.recipe_.get("engine.threads") == 2


@pytest.mark.slow
def test_copies_predict_the_same():
    X, y = table()
    model = Classifier(**QUICK, recipe=descend.Recipe(model={"activation": "tanh"})).fit(X, y)
    expected = model.predict_proba(X)
    held = io.BytesIO()
    joblib.dump(model, held)
    held.seek(0)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), joblib.load(held)):
        assert np.array_equal(twin.predict_proba(X), expected)
        assert twin.model_ is twin.run_.model is not model.model_
        assert twin.recipe_ == model.recipe_
        assert same_weights(twin.fit(X, y), model)


def test_clone_and_parameters():
    model = Classifier(hidden=(4, 4), recipe={"stop": {"patience": 3}}, lr=0.5)
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert not hasattr(twin, "run_")
    assert repr(model) == "Classifier(hidden=(4, 4), lr=0.5, recipe={'stop': {'patience': 3}})"
    twin.set_params(lr=0.25, hidden=None)
    assert (twin.lr, twin.hidden, model.lr) == (0.25, None, 0.5)
    with pytest.raises(NotFittedError):
        twin.predict(IRIS[0])
    with pytest.raises(ValueError, match="Invalid parameter"):
        twin.set_params(learning_rate=1)


@pytest.mark.slow
def test_grid_search():
    X, y = IRIS
    grid = {"lr": [1e-5, 0.02], "hidden": [(8,), (16, 16)]}
    search = GridSearchCV(Classifier(max_epochs=15, random_state=0), grid, cv=3).fit(X, y)
    assert search.best_params_["lr"] == 0.02
    assert search.best_score_ > 0.85
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_pipeline_and_cross_validation():
    X, y = IRIS
    pipeline = make_pipeline(StandardScaler(), Classifier(lr=0.02, hidden=16, max_epochs=30, random_state=0))
    scores = cross_val_score(pipeline, X, y, cv=3)
    assert scores.mean() > 0.9
    assert cross_val_predict(pipeline, X, y, cv=3, method="predict_proba").shape == (150, 3)
    pipeline.set_params(classifier__lr=0.01).fit(X, y, classifier__sample_weight=np.ones(150))
    assert pipeline.predict(X).shape == (150,)


@pytest.mark.slow
def test_defaults_on_held_out_digits():
    X, y = load_digits(return_X_y=True)
    train, test, y_train, y_test = train_test_split(X, y, random_state=0)
    model = Classifier(random_state=0).fit(train, y_train)
    assert model.score(test, y_test) > 0.96
    assert model.run_.schema.rows["test"] == 0
    assert model.n_iter_ == len(model.history_) == len(model.loss_curve_) == model.run_.metrics["epochs"]
    assert isinstance(model.model_, torch.nn.Module)
    assert model.recipe_.get("model.preset") == "good"


@pytest.mark.slow
def test_few_rows_train_without_validation():
    X, y = IRIS
    few = np.r_[0:3, 50:53, 100:103]
    model = Classifier(hidden=16, lr=0.02, random_state=0).fit(X[few], y[few])
    assert model.score(X, y) > 0.7
    assert "validation" not in model.history_[0]
    chosen = Classifier(**QUICK, validation_fraction=0.3).fit(X[few], y[few])
    assert chosen.run_.schema.rows == {"train": 6, "validation": 3, "test": 0}


def test_the_run_of_an_estimator(tmp_path):
    X, y = IRIS
    model = Classifier(**QUICK).fit(X, y)
    model.run_.save(tmp_path / "run")
    loaded = descend.load(tmp_path / "run")
    assert np.array_equal(loaded.predict(X), model.run_.predict(X))
    worst = model.run_.evaluation["worst"]
    for row in worst:  # rows have the caller's numbers, not those of the weighted set
        assert list(row["values"].values()) == X[row["row"]].tolist()
        assert row["true"] == y[row["row"]]


def test_progress_is_shown_with_verbose(capsys):
    Classifier(**QUICK).fit(*IRIS)
    assert capsys.readouterr() == ("", "")
    Classifier(**(QUICK | {"max_epochs": 2}), verbose=True).fit(*IRIS)
    assert capsys.readouterr().out == ""


# Invalid input


def test_messages_have_the_callers_row_numbers():
    X, y = table(200)
    X["size"] = X["size"].fillna(0.0)
    X.loc[137, "size"] = np.inf
    with pytest.raises(ValueError, match=r"'size'.*row 137 "):
        Classifier(**QUICK).fit(X, y)
    labels = y.astype(object)
    labels[19] = None
    with pytest.raises(ValueError, match="row 19 has no value"):
        Classifier(**QUICK).fit(X, labels)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (np.zeros((1, 2)), [0], "1 sample"),
        (pd.DataFrame({"a": [1.0]}), [0], "1 sample"),
        (pd.DataFrame(index=range(3)), [0, 1, 0], r"0 feature\(s\)"),
        (np.ones((4, 2)), [0, 1, 0, 1], "no column is left"),
        (np.eye(4), [1, 1, 1, 1], "every row has the class 1; at least two classes"),
        (np.eye(4), [0.1, 0.2, 0.3, 0.4], "Unknown label type: continuous"),
        (np.eye(4), np.arange(8).reshape(4, 2), "y has 2 columns; expected one column of classes"),
        (np.eye(4), ["a", 1, "b", "a"], "mixes labels of types"),
        (np.eye(4), None, "requires y to be passed"),
        (np.array([["a", "b"]] * 4), None, "requires y"),
        (np.full((4, 2), np.inf), [0, 1, 0, 1], "infinity"),
        (np.eye(4), [0, 1, 0], "inconsistent numbers of samples"),
    ],
)
def test_bad_data(X, y, message):
    with pytest.raises(ValueError, match=message):
        Classifier(**QUICK).fit(X, y)


def test_divergence_raises():
    X, y = IRIS
    with pytest.raises(descend.errors.DivergedError, match="lower learning rate"):
        Classifier(hidden=16, optimizer="sgd", lr=1e30, activation="relu", random_state=0).fit(X, y)


def test_an_interruption_reaches_the_caller(monkeypatch):
    """Ctrl-C must end a search over many fits, which continues after any other exception."""

    def interrupted(*_, **__):
        raise descend.errors.Interrupted("stopped in epoch 1")

    monkeypatch.setattr("descend.estimators.fitting.execute", interrupted)
    with pytest.raises(KeyboardInterrupt, match="epoch 1"):
        GridSearchCV(Classifier(**QUICK), {"lr": [0.1]}, cv=2).fit(*IRIS)
