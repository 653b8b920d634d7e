"""Test score and seconds of ``descend.train`` without a recipe, compared with scikit-learn's defaults.

    python benchmarks/default_quality.py                  all data sets, 3 seeds
    python benchmarks/default_quality.py --data digits,wine --seeds 1 --out /tmp/results

For each bundled data set and seed, a quarter of the rows is held out for testing, stratified by class for
classification. descend receives both parts and no settings, and reports its score on the test part. A linear model and
histogram gradient boosting of scikit-learn are trained and scored on the same rows. They train on all rows that are not
held out, while descend takes its validation rows from these.

``--by-name`` adds ``descend.train("digits", seed=0)``, which splits the data itself; its test part is different and
smaller.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from sklearn import datasets
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from instruments import machine
from instruments.results import add_out_option, report_table
from instruments.session import Session

DATA = {
    "digits": datasets.load_digits,
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
TEST_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Split:
    """Training and test rows. ``metric`` is "accuracy" or "r2"."""

    name: str
    metric: str
    seed: int
    x_train: np.ndarray
    x_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Score:
    """Test score of one training, and the seconds of the entire call."""

    test: float
    seconds: float


Learner = Callable[[Split], float]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", default=",".join(DATA), help=f"some of {', '.join(DATA)}; default all")
    parser.add_argument("--seeds", type=int, default=3, help="number of splits; default 3")
    parser.add_argument(
        "--by-name", action="store_true", help="also descend.train(name), which splits the data itself"
    )
    add_out_option(parser)
    options = parser.parse_args(arguments)

    learners = LEARNERS | ({"descend, by name": descend_by_name} if options.by_name else {})
    missing = {}
    if not machine.installed("descend"):
        learners = {name: learner for name, learner in learners.items() if not name.startswith("descend")}
        missing["descend"] = "not installed"
    load_before = machine.load_average()
    scores: dict[str, dict[str, list[Score]]] = {name: {} for name in options.data.split(",")}
    for name, by_learner in scores.items():
        for seed in range(options.seeds):
            split = split_of(name, seed)
            for label, learner in learners.items():
                if f"{label} on {name}" in missing:
                    continue
                try:
                    by_learner.setdefault(label, []).append(timed(learner, split))
                except Exception as cause:
                    traceback.print_exc()
                    missing[f"{label} on {name}"] = f"failed: {type(cause).__name__}: {cause}"
                    by_learner.pop(label, None)
    session = Session.now(
        ["descend", "torch", "sklearn"],
        seeds=options.seeds,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    rows = [
        [name, metric_of(name), *(cell(by_learner.get(label, [])) for label in learners)]
        for name, by_learner in scores.items()
    ]
    results = {
        name: {label: [asdict(score) for score in each] for label, each in by_learner.items()}
        for name, by_learner in scores.items()
    }
    report_table(
        options.out,
        "default_quality",
        session,
        {"scores": results, "missing": missing},
        title="Quality of the defaults",
        explanation=(
            f"Mean and standard deviation of the test score over {options.seeds} splits, and median seconds of the "
            "call. descend runs without a recipe, on the same rows as the other learners."
        ),
        header=["data", "metric", *learners],
        rows=rows,
        remarks=[f"{name}: {reason}" for name, reason in missing.items()],
    )
    return 0


def metric_of(name: str) -> str:
    """Return the metric of a data set."""
    return "r2" if name == "diabetes" else "accuracy"


def split_of(name: str, seed: int) -> Split:
    """Load a data set and split it."""
    inputs, targets = DATA[name](return_X_y=True)
    classes = metric_of(name) == "accuracy"
    parts = train_test_split(
        inputs, targets, test_size=TEST_SHARE, random_state=seed, stratify=targets if classes else None
    )
    return Split(name, metric_of(name), seed, *parts)


def timed(learner: Learner, split: Split) -> Score:
    """Train and score a learner."""
    start = time.perf_counter()
    test = learner(split)
    return Score(test, time.perf_counter() - start)


def cell(scores: list[Score]) -> str:
    """Format scores as "mean ± standard deviation (median seconds)"."""
    if not scores:
        return "–"
    tests = [score.test for score in scores]
    seconds = statistics.median(score.seconds for score in scores)
    return f"{statistics.mean(tests):.3f} ± {statistics.pstdev(tests):.3f} ({seconds:.2f} s)"


def descend_on_split(split: Split) -> float:
    """Train descend on the given split."""
    import descend

    with TemporaryDirectory() as folder:
        run = descend.train(
            (split.x_train, split.y_train),
            test=(split.x_test, split.y_test),
            seed=split.seed,
            out=Path(folder) / "run",
        )
        return float(run.metrics["test"][split.metric])


def descend_by_name(split: Split) -> float:
    """Train descend on its own split of the data set."""
    import descend

    with TemporaryDirectory() as folder:
        run = descend.train(split.name, seed=split.seed, out=Path(folder) / "run")
        return float(run.metrics["test"][split.metric])


def linear(split: Split) -> float:
    """Logistic regression with its default penalty, or ridge regression with a cross-validated one."""
    classification = split.metric == "accuracy"
    model = LogisticRegression(max_iter=10_000) if classification else RidgeCV(np.logspace(-3, 3, 13))
    return scored(make_pipeline(StandardScaler(), model), split)


def boosting(split: Split) -> float:
    """Histogram gradient boosting with scikit-learn's defaults."""
    estimator = (
        HistGradientBoostingClassifier if split.metric == "accuracy" else HistGradientBoostingRegressor
    )
    return scored(estimator(random_state=split.seed), split)


def scored(model: Any, split: Split) -> float:
    """Fit a scikit-learn model and return its test score: accuracy of a classifier, R² of a regressor."""
    return float(model.fit(split.x_train, split.y_train).score(split.x_test, split.y_test))


LEARNERS: dict[str, Learner] = {
    "descend": descend_on_split,
    "linear": linear,
    "gradient boosting": boosting,
}

if __name__ == "__main__":
    sys.exit(main())
