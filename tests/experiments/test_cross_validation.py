import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import accuracy_score, f1_score, mean_absolute_error, r2_score
from tests.support.examples import examples

from descend import TrainingData, cross_validate
from descend.data.sources import read
from descend.errors import DivergedError, UserError
from descend.experiments import cross_validation
from descend.experiments.cross_validation import CrossValidation, assign_folds
from descend.many import train_many

SMALL = {"model": {"hidden": [8]}, "stop": {"max_epochs": 3}, "engine": {"threads": 1}}


@pytest.fixture(scope="module")
def iris():
    return cross_validate("iris", SMALL, folds=4, repeats=2, seed=3)


class TestOnIris:
    def test_every_row_is_held_out_once_per_repeat(self, iris):
        assert iris.rows.tolist() == list(range(150))
        assert iris.folds.shape == (2, 150)
        assert all(set(fold_of) == {0, 1, 2, 3} for fold_of in iris.folds)
        assert (iris.folds[0] != iris.folds[1]).any()

    def test_folds_are_stratified(self, iris):
        classes = load_iris().target
        for fold_of in iris.folds:
            counts = np.stack([np.bincount(classes[fold_of == fold]) for fold in range(4)])
            assert counts.max() - counts.min() <= 1

    def test_scores_are_those_of_the_predictions(self, iris):
        names = load_iris().target_names[load_iris().target]
        for predicted, fold_of, scores in zip(iris.predictions, iris.folds, iris.scores, strict=True):
            truth = names if predicted.dtype.kind == "U" else load_iris().target
            own = [accuracy_score(truth[fold_of == fold], predicted[fold_of == fold]) for fold in range(4)]
            assert scores == pytest.approx(own)

    def test_networks_are_not_trained_on_the_rows_they_predict(self, iris, monkeypatch):
        calls = []
        monkeypatch.setattr(
            cross_validation, "train_many", lambda *a, **k: calls.append(k["parts"]) or train_many(*a, **k)
        )
        again = cross_validate("iris", SMALL, folds=4, repeats=2, seed=3)
        assert again.scores == iris.scores
        for at, (parts, run) in enumerate(zip(calls[0], iris.runs, strict=True)):
            assert set(parts["train"]).isdisjoint(parts["test"])
            assert sorted([*parts["train"], *parts["test"]]) == list(range(150))
            assert set(parts["test"]) == set(np.flatnonzero(iris.folds[at // 4] == at % 4))
            assert run.schema.rows["train"] + run.schema.rows["validation"] == len(parts["train"])

    def test_each_run_has_its_own_seed(self, iris):
        assert [run.environment["seed"] for run in iris.runs] == list(range(3, 11))

    def test_mean_and_standard_error(self, iris):
        known = np.array(iris.scores).ravel()
        assert iris.mean == pytest.approx(known.mean())
        assert iris.standard_error == pytest.approx(known.std(ddof=1) * math.sqrt(1 / 8 + 1 / 3))


def test_regression():
    result = cross_validate("diabetes", SMALL, folds=3)
    truth = load_diabetes().target
    own = [
        r2_score(truth[result.folds[0] == fold], result.predictions[0][result.folds[0] == fold])
        for fold in range(3)
    ]
    assert result.metric == "r2"
    assert result.scores[0] == pytest.approx(own, rel=1e-4)


def held_out(result, truth):
    return [
        (truth[result.folds[0] == fold], result.predictions[0][result.folds[0] == fold]) for fold in range(3)
    ]


def test_the_metric_is_chosen():
    """By name, in either direction, with the values of scikit-learn on the held-out rows."""
    by_error = cross_validate("diabetes", SMALL, folds=3, metric="mae")
    own = [mean_absolute_error(*each) for each in held_out(by_error, load_diabetes().target)]
    assert (by_error.metric, by_error.better) == ("mae", "lower")
    assert by_error.scores[0] == pytest.approx(own, rel=1e-4)
    names = load_iris().target_names[load_iris().target]
    by_f1 = cross_validate("iris", SMALL, folds=3, metric="f1_macro")
    own = [f1_score(*each, average="macro") for each in held_out(by_f1, names)]
    assert (by_f1.metric, by_f1.better) == ("f1_macro", "higher")
    assert by_f1.scores[0] == pytest.approx(own, rel=1e-6)
    assert cross_validate("iris", SMALL, folds=3, metric="loss").better == "lower"


def test_the_metric_may_be_a_function():
    def hits(y_true, y_pred):
        return int((y_true == y_pred).sum())

    result = cross_validate("iris", SMALL, folds=3, metric={"function": hits, "better": "higher"})
    names = load_iris().target_names[load_iris().target]
    assert result.scores[0] == [int((y == p).sum()) for y, p in held_out(result, names)]
    assert (result.metric, result.better) == ("hits", "higher")
    path = "sklearn.metrics.hamming_loss"
    by_path = cross_validate("iris", SMALL, folds=3, metric=path, allow_imports=True)
    assert by_path.better == "lower"
    assert by_path.scores[0] == pytest.approx([1 - hits / 50 for hits in result.scores[0]])
    with pytest.raises(UserError, match="allow_imports=True"):
        cross_validate("iris", SMALL, folds=3, metric=path)


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ("f2", "unknown metric 'f2' for regression"),
        ("accuracy", "no metric 'accuracy' for regression"),
        ("objective", "the objective depends on the recipe"),
        ("r2", "r2 is undefined on every fold: there is one row; use another metric, or fewer folds"),
    ],
)
def test_a_metric_that_does_not_fit_is_refused_before_training(metric, message, monkeypatch):
    monkeypatch.setattr(cross_validation, "train_many", None)
    x = np.arange(6.0)[:, None]
    with pytest.raises(UserError, match=message):
        cross_validate((x, x[:, 0] + 0.5), {**SMALL, "data": {"validation": 0}}, folds=6, metric=metric)


@pytest.mark.filterwarnings(
    "ignore:The least populated class"
)  # a warning of scikit-learn, which divides the rows
def test_a_fold_on_which_the_metric_is_undefined_has_no_score():
    """The one row of the second class is held out in one fold of three, and the AUC needs both classes."""
    x = np.random.default_rng(0).normal(size=(12, 2))
    y = np.array([0] * 11 + [1])
    recipe = {**SMALL, "data": {"validation": 0}, "stop": {"max_epochs": 1}}
    result = cross_validate((x, y), recipe, folds=3, metric="roc_auc")
    assert sum(score is None for score in result.scores[0]) == 2
    assert result.mean == result.valid_scores[0]
    assert result.standard_error is None


def test_leave_one_out_uses_the_root_mean_squared_error():
    x = np.arange(6.0)[:, None]
    result = cross_validate((x, x[:, 0] + 0.5), {**SMALL, "data": {"validation": 0}}, folds=6)
    assert result.metric == "rmse"
    errors = np.abs(result.predictions[0] - (x[:, 0] + 0.5))
    assert [result.scores[0][fold] for fold in result.folds[0]] == pytest.approx(errors, rel=1e-4)


def test_several_targets():
    X = np.random.default_rng(0).normal(size=(40, 3))
    result = cross_validate((X, X[:, :2] * 2), SMALL, folds=2)
    assert result.predictions.shape == (1, 40, 2)


def test_rows_marked_as_test_are_not_used():
    table = {"x": list(range(40)), "part": ["train"] * 30 + ["test"] * 10, "y": [float(i) for i in range(40)]}
    result = cross_validate(table, {**SMALL, "data": {"split": "part"}}, folds=3, target="y")
    assert result.rows.tolist() == list(range(30))
    assert result.predictions.shape == (1, 30)


def test_a_fold_that_diverges_has_no_score():
    result = cross_validate("iris", SMALL, folds=2)
    result.runs[0].metrics["status"] = "failed"
    some_failed = CrossValidation(
        "accuracy", [[None, 0.5]], result.predictions, result.rows, result.folds, result.runs
    )
    assert (some_failed.mean, some_failed.standard_error) == (0.5, None)


def test_training_data():
    X, y = load_iris(return_X_y=True)
    result = cross_validate(TrainingData((X, y)), SMALL, folds=2)
    assert result.scores == cross_validate((X, y), SMALL, folds=2).scores
    with pytest.raises(UserError, match="remove validation and test data"):
        cross_validate(TrainingData((X, y), test=(X, y)), SMALL, folds=2)


def test_all_diverge():
    recipe = {**SMALL, "optimizer": {"name": "sgd", "lr": 1e30}}
    with pytest.raises(DivergedError, match="every fold diverged"):
        cross_validate("iris", recipe, folds=2)


@settings(deadline=None, max_examples=examples(25))
@given(
    n=st.integers(12, 60),
    count=st.integers(3, 8),
    folds=st.integers(2, 3),
    classes=st.booleans(),
    seed=st.integers(0, 99),
)
def test_groups_are_never_divided(n, count, folds, classes, seed):
    random = np.random.default_rng(seed)
    groups = np.concatenate([np.arange(count), random.integers(0, count, n - count)])
    source = read({"x": random.normal(size=n), "g": groups, "y": random.normal(size=n)}, target="y")
    from dataclasses import replace

    source = replace(source, groups=groups)
    codes = random.integers(0, 2, n) if classes else None
    fold_of = assign_folds(source, codes, folds, seed)
    assert all(len(set(fold_of[groups == group])) == 1 for group in range(count))
    assert set(fold_of) <= set(range(folds))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 1}, ">= 2"),
        ({"repeats": 0}, ">= 1"),
        ({"folds": 500}, "cannot be divided into 500 folds"),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(UserError, match=message):
        cross_validate("iris", SMALL, **arguments)
