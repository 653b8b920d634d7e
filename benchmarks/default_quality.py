"""How good is no decision at all? Test score and seconds of ``descend.train`` without a recipe.

    python benchmarks/default_quality.py                  all sets, 3 seeds
    python benchmarks/default_quality.py --data digits,wine --seeds 1 --out /tmp/quality

For each bundled set and seed a quarter of the rows is held out, stratified by class where there are
classes. descend is given both parts and nothing else, and its own figure for the test part is read. A
linear model and histogram gradient boosting, as scikit-learn ships them, learn from and are scored on the
same rows. They use all rows that are not held out; descend takes its validation rows from among them.

``--by-name`` adds ``descend.train("digits", seed=0)``, which splits by itself: its test rows are others, and
fewer.
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
from instruments.session import Session, write
from instruments.table import markdown, plain

DATA = {
    "digits": datasets.load_digits,
    "breast_cancer": datasets.load_breast_cancer,
    "wine": datasets.load_wine,
    "diabetes": datasets.load_diabetes,
}
TEST_SHARE = 0.25


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to learn from and rows to be scored on. ``metric`` is "accuracy" or "r2"."""

    name: str
    metric: str
    seed: int
    x_train: np.ndarray
    x_test: np.ndarray
    y_train: np.ndarray
    y_test: np.ndarray


@dataclass(frozen=True)
class Score:
    """One training: its figure on the test part, and the seconds of the whole call."""

    test: float
    seconds: float


Learner = Callable[[Split], float]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--data", default=",".join(DATA), help=f"of {', '.join(DATA)}; default all")
    parser.add_argument("--seeds", type=int, default=3, help="splits; default 3")
    parser.add_argument(
        "--by-name", action="store_true", help="also descend.train(name), splitting by itself"
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "default_quality")
    options = parser.parse_args(arguments)

    learners = LEARNERS | ({"descend, by name": descend_by_name} if options.by_name else {})
    missing = {}
    if not machine.installed("descend"):
        learners = {name: learner for name, learner in learners.items() if not name.startswith("descend")}
        missing["descend"] = "not installed"
    load_before = machine.load_average()
    scores: dict[str, dict[str, list[Score]]] = {name: {} for name in options.data.split(",")}
    for name, of_learners in scores.items():
        for seed in range(options.seeds):
            split = split_of(name, seed)
            for label, learner in learners.items():
                if f"{label} on {name}" in missing:
                    continue
                try:
                    of_learners.setdefault(label, []).append(timed(learner, split))
                except Exception as cause:
                    traceback.print_exc()
                    missing[f"{label} on {name}"] = f"failed: {type(cause).__name__}: {cause}"
                    of_learners.pop(label, None)
    session = Session.now(
        ["descend", "torch", "sklearn"],
        seeds=options.seeds,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    header = ["data", "metric", *learners]
    rows = [
        [name, metric_of(name), *(cell(of_learners.get(label, [])) for label in learners)]
        for name, of_learners in scores.items()
    ]
    remarks = [*(f"{name}: {reason}" for name, reason in missing.items()), session.line()]
    print(plain(header, rows), "", *remarks, sep="\n")
    found = {
        name: {label: [asdict(score) for score in each] for label, each in of_learners.items()}
        for name, of_learners in scores.items()
    }
    how = (
        f"Mean test score over {options.seeds} splits ± their standard deviation, and median seconds of the "
        "call. descend without a recipe, on the same rows as the others."
    )
    text = "\n\n".join(
        ["# Quality by default", how, markdown(header, rows), "\n".join(f"- {remark}" for remark in remarks)]
    )
    write(options.out, session, {"scores": found, "missing": missing}, text)
    return 0


def metric_of(name: str) -> str:
    return "r2" if name == "diabetes" else "accuracy"


def split_of(name: str, seed: int) -> Split:
    inputs, targets = DATA[name](return_X_y=True)
    classes = metric_of(name) == "accuracy"
    parts = train_test_split(
        inputs, targets, test_size=TEST_SHARE, random_state=seed, stratify=targets if classes else None
    )
    return Split(name, metric_of(name), seed, *parts)


def timed(learner: Learner, split: Split) -> Score:
    start = time.perf_counter()
    test = learner(split)
    return Score(test, time.perf_counter() - start)


def cell(scores: list[Score]) -> str:
    if not scores:
        return "–"
    tests = [score.test for score in scores]
    seconds = statistics.median(score.seconds for score in scores)
    return f"{statistics.mean(tests):.3f} ± {statistics.pstdev(tests):.3f} ({seconds:.2f} s)"


def descend_on_the_same_rows(split: Split) -> float:
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
    import descend

    with TemporaryDirectory() as folder:
        run = descend.train(split.name, seed=split.seed, out=Path(folder) / "run")
        return float(run.metrics["test"][split.metric])


def linear(split: Split) -> float:
    """Logistic regression with its default penalty, or ridge regression with a cross-validated one."""
    classifies = split.metric == "accuracy"
    model = LogisticRegression(max_iter=10_000) if classifies else RidgeCV(np.logspace(-3, 3, 13))
    return scored(make_pipeline(StandardScaler(), model), split)


def boosting(split: Split) -> float:
    make = HistGradientBoostingClassifier if split.metric == "accuracy" else HistGradientBoostingRegressor
    return scored(make(random_state=split.seed), split)


def scored(model: Any, split: Split) -> float:
    """What a scikit-learn model's own ``score`` gives: accuracy of a classifier, R² of a regressor."""
    return float(model.fit(split.x_train, split.y_train).score(split.x_test, split.y_test))


LEARNERS: dict[str, Learner] = {
    "descend": descend_on_the_same_rows,
    "linear": linear,
    "gradient boosting": boosting,
}

if __name__ == "__main__":
    sys.exit(main())
