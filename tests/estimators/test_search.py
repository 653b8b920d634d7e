"""``descend.Search`` in the hands of scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import descend
from descend import Classifier, Regressor, Search

APART = "check_array_api_input"
SPACE = {"optimizer.lr": {"log_uniform": [3e-3, 3e-2]}}
IRIS = load_iris(return_X_y=True)


def small(estimator, **more):
    options = {"n_trials": 2, "cv": 2, "random_state": 0, **more}
    return Search(estimator, SPACE, **options)


def name_of(check):
    while hasattr(check, "func"):
        check = check.func
    return check.__name__


@pytest.mark.slow
@parametrize_with_checks(
    [small(Classifier(max_epochs=30, hidden=32)), small(Regressor(max_epochs=30, hidden=32))]
)
@pytest.mark.filterwarnings(
    "ignore:invalid value encountered in cast:RuntimeWarning"
)  # of scikit-learn, on infinite targets
def test_check(estimator, check):
    if name_of(check) == APART:
        return  # in test_sklearn_checks.py
    check(estimator)


class TestResults:
    def test_have_the_usual_keys(self):
        found = small(Classifier(max_epochs=5), n_trials=3).fit(*IRIS)
        results = found.cv_results_
        assert {
            "mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time", "params",
            "param_optimizer.lr", "split0_test_score", "split1_test_score", "mean_test_score",
            "std_test_score", "rank_test_score",
        } == set(results)  # fmt: skip
        both = np.stack([results["split0_test_score"], results["split1_test_score"]])
        assert np.allclose(results["mean_test_score"], both.mean(0))
        assert np.allclose(results["std_test_score"], both.std(0))
        best = int(np.argmax(results["mean_test_score"]))
        assert found.best_index_ == best
        assert results["rank_test_score"][best] == 1
        assert found.best_params_ == results["params"][best]
        assert found.best_score_ == results["mean_test_score"][best]
        assert found.best_estimator_.recipe_.get("optimizer.lr") == found.best_params_["optimizer.lr"]
        assert found.n_splits_ == 2

    def test_the_score_of_a_fold_is_that_of_a_training_on_its_rows(self):
        X, y = load_diabetes(return_X_y=True)
        folds = list(KFold(2, shuffle=True, random_state=0).split(X))
        found = small(Regressor(max_epochs=4, hidden=16), cv=folds, engine="loop").fit(X, y)
        for fold, (learned, held) in enumerate(folds):
            point = found.cv_results_["params"][1]
            run = descend.train_many(
                [{"model": {"hidden": [16]}, "stop": {"max_epochs": 4}, "data": {"task": "regression"},
                  "engine": {"threads": 1}, "optimizer": {"lr": point["optimizer.lr"]}}],
                (X[learned], y[learned]),
                parts=[{"train": np.arange(len(learned))}],
            )[0]  # fmt: skip
            guessed = run.predict(X[held])
            r2 = 1 - ((y[held] - guessed) ** 2).sum() / ((y[held] - y[held].mean()) ** 2).sum()
            assert found.cv_results_[f"split{fold}_test_score"][1] == pytest.approx(r2, abs=1e-4)

    def test_a_loss_is_turned_round(self):
        X, y = load_diabetes(return_X_y=True)
        found = small(Regressor(max_epochs=3), scoring="neg_mean_absolute_error").fit(X, y)
        assert (found.cv_results_["mean_test_score"] < 0).all()
        assert found.best_score_ == found.cv_results_["mean_test_score"].max()
        assert found.score(X, y) == pytest.approx(-np.abs(found.predict(X) - y).mean())

    def test_a_candidate_that_diverged_is_nan_and_last(self):
        space = {"optimizer.lr": [0.01, 1e30]}
        made = Search(
            Classifier(max_epochs=3, optimizer="sgd"), space, n_trials=2, method="grid", cv=2, random_state=0
        )
        found = made.fit(*IRIS)
        assert np.isnan(found.cv_results_["mean_test_score"]).tolist() == [False, True]
        assert found.cv_results_["rank_test_score"].tolist() == [1, 2]

    def test_all_diverged(self):
        made = Search(Classifier(max_epochs=3, optimizer="sgd"), {"optimizer.lr": [1e30]}, n_trials=1, cv=2)
        with pytest.raises(descend.errors.DivergedError, match="All 1 candidates diverged"):
            made.fit(*IRIS)


class TestUse:
    @pytest.mark.slow
    def test_within_cross_validation(self):
        scores = cross_val_score(small(Classifier(max_epochs=20, lr=0.01)), *IRIS, cv=2)
        assert scores.mean() > 0.8

    def test_groups(self):
        X, y = IRIS
        groups = np.arange(150) % 10
        found = small(Classifier(max_epochs=2), cv=GroupKFold(2)).fit(X, y, groups=groups)
        assert found.n_splits_ == 2

    def test_without_refit(self):
        found = small(Classifier(max_epochs=2), refit=False).fit(*IRIS)
        assert found.best_score_ > 0
        with pytest.raises(AttributeError, match="refit=True"):
            found.predict(IRIS[0])

    def test_the_default_space(self):
        found = Search(Classifier(max_epochs=1), n_trials=1, cv=2, random_state=0).fit(*IRIS)
        assert {"optimizer.lr", "model.hidden"} <= set(found.best_params_)

    @pytest.mark.parametrize(
        ("options", "words"),
        [({"method": "halving"}, "halving needs one split"), ({"scoring": "r2"}, "no score 'r2'")],
    )
    def test_mistakes(self, options, words):
        with pytest.raises(ValueError, match=words):
            small(Classifier(), **options).fit(*IRIS)

    def test_another_estimator(self):
        from sklearn.linear_model import Ridge

        with pytest.raises(ValueError, match="RandomizedSearchCV"):
            Search(Ridge()).fit(*IRIS)

    def test_an_unknown_key(self):
        with pytest.raises(ValueError, match="unknown key"):
            Search(Classifier(), {"optimizer.lrr": [0.1]}, n_trials=1, cv=2).fit(*IRIS)
