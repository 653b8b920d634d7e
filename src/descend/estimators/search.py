"""Search over recipes as a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from descend.arguments import kind_of
from descend.data.source import Array, Source
from descend.errors import DivergedError, Interrupted, UserError
from descend.estimators.classifier import Classifier
from descend.estimators.fitting import MIN_INPUTS_FOR_VALIDATION, single_thread
from descend.estimators.network import Network
from descend.estimators.parameters import RECIPE_KEYS, Sections
from descend.estimators.problems import in_own_words
from descend.estimators.scores import SCORES, score_of
from descend.experiments.search.defaults import default_space
from descend.experiments.search.space import Point, Space
from descend.experiments.search.strategies import explore, make_strategy
from descend.experiments.search.trial import Trial
from descend.experiments.search.validation import validate_space
from descend.interface import setting
from descend.many import train_many
from descend.recipe import Recipe
from descend.runs.plan import Planner
from descend.runs.run import Run

__all__ = ["Search"]


def _has_method(name: str) -> Any:
    """Return a check of whether the estimator has a method, as scikit-learn expects it."""

    def has(self: Search) -> bool:
        getattr(self.best_estimator_ if hasattr(self, "best_estimator_") else self._inner(), name)
        return True

    return has


class Search(MetaEstimatorMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Cross-validated search for the best recipe, with the interface of ``RandomizedSearchCV``.

    Every candidate is trained on the training rows of each fold and scored on its held-out rows; candidates and folds
    are members of :func:`descend.train_many` and share one seed. Then the best candidate is trained on all rows.

    Args:
        estimator: a :class:`descend.Classifier` or :class:`descend.Regressor`, whose parameters apply to all
            candidates. Default None: a classifier with default settings.
        space: a :class:`descend.experiments.search.Space`, a mapping or a TOML file. Default None: the default space
            around the estimator's recipe.
        n_trials: maximum number of candidates.
        method: "random", "quasi_random", "grid" or "tpe".
        cv: folds, as in scikit-learn: None for 5, a number, a splitter, or pairs of row numbers.
        scoring: None for accuracy or R²; or a name of scikit-learn: "accuracy", "balanced_accuracy", "f1", "f1_macro",
            "precision", "recall", "roc_auc" ("roc_auc_ovr" for more than two classes), "average_precision",
            "matthews_corrcoef", "neg_brier_score", "neg_log_loss", "r2", "neg_mean_absolute_error",
            "neg_root_mean_squared_error", "neg_median_absolute_error", "neg_mean_absolute_percentage_error". The mean
            is over the folds on which it is defined.
        refit: whether to train the best candidate on all rows, which predictions require.
        random_state: the seed of candidates and trainings; None samples one from NumPy's global generator.
        engine: as for :func:`descend.train_many`.

    Attributes:
        best_params_: values of the best candidate, by ``section.key``.
        best_score_: its mean score over the folds.
        best_index_: its index in ``cv_results_``.
        best_estimator_: the estimator trained with it on all rows.
        cv_results_: arrays with an entry for each candidate: ``params``, ``param_<key>``,
            ``split<k>_test_score``, ``mean_test_score``, ``std_test_score``, ``rank_test_score``,
            ``mean_fit_time``, ``std_fit_time``, ``mean_score_time``, ``std_score_time``. Candidates that diverged
            on any fold have the score NaN and the last rank. Held-out rows are scored during training, so the scoring
            times are 0.
        n_splits_: number of folds.
        scorer_: name of the score.
        classes_, n_features_in_, feature_names_in_: of the data.

    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> space = {"optimizer.lr": {"log_uniform": [1e-3, 1e-1]}}
    >>> search = Search(Classifier(max_epochs=5), space, n_trials=3, cv=2, random_state=0).fit(X, y)
    >>> sorted(search.best_params_), search.predict(X).shape
    (['optimizer.lr'], (150,))
    """

    best_estimator_: Network

    def __init__(
        self,
        estimator: Network | None = None,
        space: Space | Mapping[str, Any] | str | Path | None = None,
        *,
        n_trials: int = 16,
        method: str = "random",
        cv: Any = None,
        scoring: str | None = None,
        refit: bool = True,
        random_state: int | np.random.RandomState | None = None,
        engine: str = "auto",
    ) -> None:
        self.estimator = estimator
        self.space = space
        self.n_trials = n_trials
        self.method = method
        self.cv = cv
        self.scoring = scoring
        self.refit = refit
        self.random_state = random_state
        self.engine = engine

    def _inner(self) -> Network:
        return Classifier() if self.estimator is None else self.estimator

    @in_own_words
    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Search, then train the best candidate on all rows.

        Args:
            X: features, as for :meth:`descend.Classifier.fit`.
            y: targets.
            groups: a group label for each row, for splitters that keep groups together.

        Raises:
            ValueError: invalid data or parameters.
            DivergedError: every candidate diverged.
        """
        inner = self._inner()
        if not isinstance(inner, Network):
            raise UserError(
                f"Search: expected a descend.Classifier or descend.Regressor, got {kind_of(inner)}; "
                "use sklearn.model_selection.RandomizedSearchCV for other estimators"
            )
        if self.method not in ("random", "quasi_random", "grid", "tpe"):
            raise UserError(
                f"method: expected random, quasi_random, grid or tpe, got '{self.method}' (halving needs a single "
                "split, see descend.experiments.search)"
            )
        seed = self._seed()
        template = clone(inner).set_params(random_state=seed)
        source, _ = template._source(X, y, None, reset=True, min_rows=2)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(template, name):
                setattr(self, name, getattr(template, name))
            elif hasattr(self, name):
                delattr(self, name)
        if is_classifier(template):
            self.classes_ = np.unique(source.targets)
        folds = list(
            check_cv(self.cv, source.targets, classifier=is_classifier(template)).split(
                np.zeros((len(source), 1)), source.targets, groups
            )
        )
        if hasattr(self, "best_estimator_"):
            del self.best_estimator_
        self._search(template, source, folds, seed)
        if self.refit:
            # The recipe has the values of the parameters, which would override those of the candidate.
            chosen = clone(template).set_params(
                **dict.fromkeys(RECIPE_KEYS & template.get_params().keys()),
                recipe=self._recipe(template, source, self.best_params_),
            )
            self.best_estimator_ = chosen.fit(X, y)
        return self

    def _seed(self) -> int:
        return Classifier(random_state=self.random_state)._seed_value()

    def _search(self, template: Network, source: Source, folds: list[tuple[Array, Array]], seed: int) -> None:
        base = self._recipe(template, source, {})
        # Keys that are not specified are chosen for the training rows of the first fold.
        planner = Planner(source.take(np.asarray(folds[0][0])), refits=False)
        planned = planner.plan(base, seed)
        varied = default_space(base, planned.recipe) if self.space is None else self.space
        space = validate_space(varied, base, planner, seed)
        metric, self.scorer_ = score_of(self.scoring, planned.prepared.schema.task)
        sampler = make_strategy(self.method, space, self.n_trials, seed, metric)  # type: ignore[arg-type]  # validated there
        self.n_splits_ = len(folds)
        scores = np.full((sampler.trials, len(folds)), np.nan)
        times = np.zeros((sampler.trials, len(folds)))
        failed = np.zeros(sampler.trials, dtype=bool)
        params: list[Point] = [{} for _ in range(sampler.trials)]

        def evaluate(points: Mapping[int, Point], place: int) -> dict[int, Trial]:
            runs = self._train([base.replace(point) for point in points.values()], source, folds, seed)
            for number, fold_runs in zip(points, runs, strict=True):
                params[number] = points[number]
                times[number] = [run.metrics.get("seconds", 0.0) for run in fold_runs]
                # An undefined metric is None; it becomes NaN as well, but does not count as a failure.
                scores[number] = [np.nan if run.failed else run.metrics["test"][metric] for run in fold_runs]
                failed[number] = any(run.failed for run in fold_runs)
            means = {number: _mean(scores[number], bool(failed[number])) for number in points}
            return {
                number: Trial(number, points[number], "finished", mean)
                if np.isfinite(mean)
                else Trial(number, points[number], "diverged")
                for number, mean in means.items()
            }

        size = sampler.batch
        blocks = [range(at, min(at + size, sampler.trials)) for at in range(0, sampler.trials, size)]
        try:
            explore(sampler, evaluate, blocks, {})
        except Interrupted as stop:
            raise KeyboardInterrupt(str(stop)) from stop
        if not failed.any() and np.isnan(scores).all():
            raise UserError(
                f"{metric} is undefined on every fold, for example because each has a single row; use folds of more rows "
                "(cv=5), or another score (scoring=)"
            )
        self._store(space, params, scores * SCORES[self.scorer_][1], times, failed)

    def _train(
        self, recipes: list[Recipe], source: Source, folds: list[tuple[Array, Array]], seed: int
    ) -> list[list[Run]]:
        """Return the runs of each recipe, one for each fold."""
        parts = [{"train": learned, "test": held} for learned, held in folds]
        runs = train_many(
            [recipe for recipe in recipes for _ in parts],
            source,
            seeds=seed,
            parts=parts * len(recipes),
            engine=self.engine,  # type: ignore[arg-type]  # validated by train_many
            progress=False,
        )
        return [runs[at : at + len(parts)] for at in range(0, len(runs), len(parts))]

    def _store(self, space: Space, params: list[Point], scores: Array, times: Array, failed: Array) -> None:
        mean = np.array(
            [_mean(own, bool(any_failed)) for own, any_failed in zip(scores, failed, strict=True)]
        )
        if not np.isfinite(mean).any():
            raise DivergedError(
                f"All {len(params)} candidates diverged on some fold. Lower the learning rates of the space, or "
                f"limit gradients: {setting('gradient.clip_norm', 1.0)}"
            )
        columns: dict[str, Any] = {}
        for key in space.keys:
            column = np.ma.MaskedArray(np.empty(len(params), dtype=object), mask=True)
            for row, point in enumerate(params):
                if key in point:
                    column[row] = point[key]
            columns[f"param_{key}"] = column
        ranked = np.where(np.isfinite(mean), -mean, np.inf)
        self.cv_results_ = {
            "mean_fit_time": times.mean(axis=1),
            "std_fit_time": times.std(axis=1),
            "mean_score_time": np.zeros(len(params)),
            "std_score_time": np.zeros(len(params)),
            **columns,
            "params": params,
            **{f"split{fold}_test_score": scores[:, fold] for fold in range(scores.shape[1])},
            "mean_test_score": mean,
            "std_test_score": np.array(
                [_std(own, bool(any_failed)) for own, any_failed in zip(scores, failed, strict=True)]
            ),
            "rank_test_score": rankdata(ranked, method="min").astype(np.int32),
        }
        self.best_index_ = int(np.nanargmax(mean))
        self.best_score_ = float(mean[self.best_index_])
        self.best_params_ = params[self.best_index_]

    def _recipe(self, template: Network, source: Source, point: Point) -> Recipe:
        """Return the estimator's recipe with a candidate's values; small data sets have no validation part."""
        sections: Sections = template._sections()
        data = dict(sections["data"])
        if data.get("validation") is None and len(source) < MIN_INPUTS_FOR_VALIDATION:
            data["validation"] = 0.0
        data.pop("test", None)
        model = dict(sections.get("model", {}))
        if model.get("preset", "auto") == "auto":  # the winner is refitted as the candidates were trained
            model["preset"] = "quick"
        specified = sections | {"data": data, "model": model, "engine": single_thread(sections)}
        return Recipe.of(specified).replace(point)

    @available_if(_has_method("predict"))  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict(self, X: Any) -> Array:
        """Return predictions of the best estimator."""
        return self._best().predict(X)  # type: ignore[no-any-return]  # scikit-learn has no types

    @available_if(_has_method("predict_proba"))  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict_proba(self, X: Any) -> Array:
        """Return class probabilities of the best estimator, (n, K)."""
        return self._best().predict_proba(X)  # type: ignore[no-any-return]  # scikit-learn has no types

    @available_if(_has_method("predict_log_proba"))  # type: ignore[untyped-decorator]  # scikit-learn has no types
    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of :meth:`predict_proba`."""
        return self._best().predict_log_proba(X)  # type: ignore[no-any-return]  # scikit-learn has no types

    def score(self, X: Any, y: Any = None) -> float:
        """Return accuracy or R² of the best estimator, or the score specified by ``scoring``."""
        best = self._best()
        if self.scorer_ in ("accuracy", "r2"):
            return float(best.score(X, y))
        from sklearn.metrics import get_scorer

        return float(get_scorer(self.scorer_)(best, X, y))

    def _best(self) -> Network:
        check_is_fitted(self)
        if not hasattr(self, "best_estimator_"):
            raise AttributeError("predictions require refit=True")
        return self.best_estimator_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "cv_results_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        own = self._inner().__sklearn_tags__()
        tags.estimator_type = own.estimator_type
        tags.classifier_tags = own.classifier_tags
        tags.regressor_tags = own.regressor_tags
        tags.input_tags = own.input_tags
        tags.target_tags = own.target_tags
        return tags


def _mean(scores: Array, failed: bool) -> float:
    """Return the mean over the folds on which the metric is defined; NaN if a training failed or it is defined on none."""
    defined = scores[~np.isnan(scores)]
    return float("nan") if failed or not len(defined) else float(defined.mean())


def _std(scores: Array, failed: bool) -> float:
    """Return the standard deviation over the folds on which the metric is defined; NaN as in :func:`_mean`."""
    defined = scores[~np.isnan(scores)]
    return float("nan") if failed or not len(defined) else float(defined.std())
