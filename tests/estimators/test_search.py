"""``descend.Search`` as a scikit-learn estimator."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_diabetes, load_iris
from sklearn.model_selection import GroupKFold, KFold, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

import descend
from descend import Classifier, Regressor, Search

SEPARATE = "check_array_api_input"
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
)  # from scikit-learn, on infinite targets
def test_check(estimator, check):
    if name_of(check) == SEPARATE:
        return  # in test_sklearn_checks.py
    check(estimator)


class TestResults:
    @pytest.mark.slow
    def test_have_the_keys_of_scikit_learn(self):
        search = small(Classifier(max_epochs=5), n_trials=3).fit(*IRIS)
        results = search.cv_results_
        assert {
            "mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time", "params",
            "param_optimizer.lr", "split0_test_score", "split1_test_score", "mean_test_score",
            "std_test_score", "rank_test_score",
        } == set(results)  # fmt: skip
        both = np.stack([results["split0_test_score"], results["split1_test_score"]])
        assert np.allclose(results["mean_test_score"], both.mean(0))
        assert np.allclose(results["std_test_score"], both.std(0))
        best = int(np.argmax(results["mean_test_score"]))
        assert search.best_index_ == best
        assert results["rank_test_score"][best] == 1
        assert search.best_params_ == results["params"][best]
        assert search.best_score_ == results["mean_test_score"][best]
        assert search.best_estimator_.recipe_.get("optimizer.lr") == search.best_params_["optimizer.lr"]
        assert search.n_splits_ == 2

    def test_the_score_of_a_fold_equals_that_of_a_separate_training(self):
        X, y = load_diabetes(return_X_y=True)
        folds = list(KFold(2, shuffle=True, random_state=0).split(X))
        search = small(Regressor(max_epochs=4, hidden=16), cv=folds, engine="loop").fit(X, y)
        for fold, (training, held) in enumerate(folds):
            point = search.cv_results_["params"][1]
            run = descend.train_many(
                [{"model": {"hidden": [16]}, "stop": {"max_epochs": 4}, "data": {"task": "regression"},
                  "engine": {"threads": 1}, "optimizer": {"lr": point["optimizer.lr"]}}],
                (X[training], y[training]),
                parts=[{"train": np.arange(len(training))}],
            )[0]  # fmt: skip
            predicted = run.predict(X[held])
            r2 = 1 - ((y[held] - predicted) ** 2).sum() / ((y[held] - y[held].mean()) ** 2).sum()
            assert search.cv_results_[f"split{fold}_test_score"][1] == pytest.approx(r2, abs=1e-4)

    @pytest.mark.slow
    def test_a_loss_is_negated(self):
        X, y = load_diabetes(return_X_y=True)
        search = small(Regressor(max_epochs=3), scoring="neg_mean_absolute_error").fit(X, y)
        assert (search.cv_results_["mean_test_score"] < 0).all()
        assert search.best_score_ == search.cv_results_["mean_test_score"].max()
        assert search.score(X, y) == pytest.approx(-np.abs(search.predict(X) - y).mean())

    @pytest.mark.slow
    def test_a_candidate_that_diverged_is_nan_and_last(self):
        space = {"optimizer.lr": [0.01, 1e30]}
        search = Search(
            Classifier(max_epochs=3, optimizer="sgd"), space, n_trials=2, method="grid", cv=2, random_state=0
        )
        search.fit(*IRIS)
        assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [False, True]
        assert search.cv_results_["rank_test_score"].tolist() == [1, 2]

    @pytest.mark.slow
    def test_all_diverged(self):
        search = Search(Classifier(max_epochs=3, optimizer="sgd"), {"optimizer.lr": [1e30]}, n_trials=1, cv=2)
        with pytest.raises(descend.errors.DivergedError, match="All 1 candidates diverged"):
            search.fit(*IRIS)


class TestUse:
    @pytest.mark.slow
    def test_within_cross_validation(self):
        scores = cross_val_score(small(Classifier(max_epochs=20, lr=0.01)), *IRIS, cv=2)
        assert scores.mean() > 0.8

    @pytest.mark.slow
    def test_groups(self):
        X, y = IRIS
        groups = np.arange(150) % 10
        search = small(Classifier(max_epochs=2), cv=GroupKFold(2)).fit(X, y, groups=groups)
        assert search.n_splits_ == 2

    @pytest.mark.parametrize("optimizer", ["sgd", {"name": "sgd", "lr": 0.2}])
    def test_the_best_candidate_overrides_parameters(self, optimizer):
        estimator = Classifier(max_epochs=1, hidden=3, optimizer=optimizer, lr=0.1)
        search = Search(estimator, {"optimizer.lr": [0.01, 0.02]}, n_trials=2, cv=2, random_state=0).fit(
            *IRIS
        )
        fitted = search.best_estimator_.recipe_
        assert fitted.get("optimizer.lr") == search.best_params_["optimizer.lr"]
        assert (fitted.get("optimizer.name"), fitted.get("model.hidden")) == ("sgd", (3,))

    def test_without_refit(self):
        search = small(Classifier(max_epochs=2), refit=False).fit(*IRIS)
        assert search.best_score_ > 0
        with pytest.raises(AttributeError, match="refit=True"):
            search.predict(IRIS[0])

    def test_the_default_space(self):
        search = Search(Classifier(max_epochs=1), n_trials=1, cv=2, random_state=0).fit(*IRIS)
        assert {"optimizer.lr", "model.hidden"} <= set(search.best_params_)

    @pytest.mark.parametrize(
        ("options", "message"),
        [({"method": "halving"}, "halving needs a single split"), ({"scoring": "r2"}, "unknown score 'r2'")],
    )
    def test_invalid_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            small(Classifier(), **options).fit(*IRIS)

    def test_another_estimator(self):
        from sklearn.linear_model import Ridge

        with pytest.raises(ValueError, match="RandomizedSearchCV"):
            Search(Ridge()).fit(*IRIS)

    def test_an_unknown_key(self):
        with pytest.raises(ValueError, match="unknown key"):
            Search(Classifier(), {"optimizer.lrr": [0.1]}, n_trials=1, cv=2).fit(*IRIS)
