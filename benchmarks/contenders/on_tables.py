"""Ways to fit a table: descend, boosted trees, other networks and linear models, each with one thread."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import descend
from instruments.real_tables import Split

__all__ = ["CONTENDERS", "Fit", "Fitted", "installed"]

Fitted = Callable[[pd.DataFrame], tuple[np.ndarray, np.ndarray | None]]
"""A fitted contender: rows to predictions, and to probabilities in the order of the sorted classes."""

Fit = Callable[[Split], Fitted]


def installed(name: str) -> bool:
    """Return whether the package that a contender needs is installed."""
    package = _PACKAGES.get(name)
    return package is None or importlib.util.find_spec(package) is not None


def of_descend(preset: str) -> Fit:
    """Return a contender that trains with a preset and leaves everything else to the defaults."""

    def fit(split: Split) -> Fitted:
        recipe = {"model.preset": preset, "data.test": 0.0, "engine.threads": 1}
        run = descend.train(split.train, recipe, target=split.target, seed=split.seed)
        if split.classes is None:
            return lambda rows: (run.predict(rows), None)
        assert list(run.schema.classes) == list(split.classes)
        return lambda rows: (run.predict(rows), run.predict_proba(rows).astype(float))

    return fit


def _of_estimator(
    split: Split, model: Any, prepared: Callable[[pd.DataFrame], Any] = lambda rows: rows
) -> Fitted:
    """Fit an estimator of scikit-learn's interface."""
    model.fit(prepared(split.inputs), split.train[split.target].to_numpy())
    return _predictions_of(split, model, prepared)


def _predictions_of(split: Split, model: Any, prepared: Callable[[pd.DataFrame], Any]) -> Fitted:
    if split.classes is None:
        return lambda rows: (np.asarray(model.predict(prepared(rows))).reshape(-1), None)
    order = np.argsort([str(each) for each in model.classes_])

    def both(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        inputs = prepared(rows)
        probabilities = np.asarray(model.predict_proba(inputs), dtype=float)[:, order]
        return np.asarray(model.predict(inputs)).reshape(-1).astype(str), probabilities

    return both


def _scaled_and_onehot() -> Any:
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    return make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_exclude="number"),
        ),
    )


def linear(split: Split) -> Fitted:
    """Fit a ridge or logistic regression on scaled numbers and one-hot categories."""
    model = RidgeCV(np.logspace(-3, 3, 13)) if split.classes is None else LogisticRegression(max_iter=2000)
    return _of_estimator(split, make_pipeline(_scaled_and_onehot(), model))


def sklearn_mlp(split: Split) -> Fitted:
    """Fit scikit-learn's perceptron with its defaults, on scaled numbers, one-hot categories and a scaled target."""
    if split.classes is not None:
        return _of_estimator(
            split, make_pipeline(_scaled_and_onehot(), MLPClassifier(random_state=split.seed))
        )
    model = TransformedTargetRegressor(MLPRegressor(random_state=split.seed), transformer=StandardScaler())
    return _of_estimator(split, make_pipeline(_scaled_and_onehot(), model))


def _levels(split: Split) -> dict[str, list[str]]:
    return {
        each: sorted(set(_strings(split.train[each])))
        for each in split.inputs
        if split.train[each].dtype.kind not in "ifb"
    }


def _strings(column: pd.Series) -> list[str]:
    return [str(value) for value in column]


def lightgbm(split: Split, *, early: bool) -> Fitted:
    """Fit LightGBM with default settings, or with up to 2,000 trees of learning rate 0.05 that stop early."""
    import lightgbm as library

    levels = _levels(split)

    def typed(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.copy()
        for column, own in levels.items():
            frame[column] = pd.Categorical(_strings(frame[column]), own)
        frame.columns = [f"c{at}" for at in range(frame.shape[1])]
        return frame

    kind = library.LGBMRegressor if split.classes is None else library.LGBMClassifier
    settings: dict[str, Any] = {"random_state": split.seed, "n_jobs": 1, "verbose": -1}
    if not early:
        return _of_estimator(split, kind(**settings), typed)
    stratify = None if split.classes is None else split.train[split.target]
    own, held = train_test_split(split.train, test_size=0.2, random_state=split.seed, stratify=stratify)
    model = kind(**settings, n_estimators=2000, learning_rate=0.05).fit(
        typed(own.drop(columns=split.target)),
        own[split.target],
        eval_set=[(typed(held.drop(columns=split.target)), held[split.target])],
        callbacks=[library.early_stopping(50, verbose=False)],
    )
    return _predictions_of(split, model, typed)


def catboost(split: Split) -> Fitted:
    """Fit CatBoost with default settings."""
    import catboost as library

    levels = _levels(split)

    def typed(frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(**{column: _strings(frame[column]) for column in levels})

    kind = library.CatBoostRegressor if split.classes is None else library.CatBoostClassifier
    model = kind(
        random_seed=split.seed,
        thread_count=1,
        verbose=False,
        allow_writing_files=False,
        cat_features=list(levels),
    )
    return _of_estimator(split, model, typed)


def pytabkit(split: Split, *, name: str) -> Fitted:
    """Fit a network of pytabkit with its tuned defaults; missing numbers are replaced by the median."""
    from pytabkit.models.sklearn import sklearn_interfaces

    levels = _levels(split)
    medians = split.inputs.drop(columns=list(levels)).median()

    def typed(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.fillna(medians)
        return frame.assign(
            **{column: pd.Series(_strings(frame[column]), frame.index, dtype=object) for column in levels}
        )

    kind = getattr(sklearn_interfaces, f"{name}_{'Regressor' if split.classes is None else 'Classifier'}")
    return _of_estimator(split, kind(random_state=split.seed, device="cpu", n_threads=1, verbosity=0), typed)


CONTENDERS: dict[str, Fit] = {
    "descend quick": of_descend("quick"),
    "descend good": of_descend("good"),
    "LightGBM": lambda split: lightgbm(split, early=False),
    "LightGBM stopped": lambda split: lightgbm(split, early=True),
    "CatBoost": catboost,
    "RealMLP-TD": lambda split: pytabkit(split, name="RealMLP_TD"),
    "TabM": lambda split: pytabkit(split, name="TabM_D"),
    "scikit-learn MLP": sklearn_mlp,
    "linear": linear,
}
"""Contenders by name."""

_PACKAGES = {
    "LightGBM": "lightgbm",
    "LightGBM stopped": "lightgbm",
    "CatBoost": "catboost",
    "RealMLP-TD": "pytabkit",
    "TabM": "pytabkit",
}
