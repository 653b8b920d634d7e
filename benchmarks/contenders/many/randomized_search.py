"""scikit-learn's RandomizedSearchCV over MLPClassifier: one predefined split, no refit, two processes.

The rates are a list, from which scikit-learn samples without putting back: as many as there are, so all of them. It
scores each network once, at its end; its networks do not validate while they train.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from contenders.many.contract import Many, ManyContender, Outcome, Runner

__all__ = ["RANDOMIZED_SEARCH"]

JOBS = 2


@contextmanager
def prepare(many: Many) -> Iterator[Runner]:
    from joblib import parallel_config
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV
    from sklearn.neural_network import MLPClassifier

    problem, rates = many.problem, [variant.rate for variant in many.variants]
    inputs = np.concatenate([problem.x_train, problem.x_validation])
    targets = np.concatenate([problem.y_train, problem.y_validation])
    part = np.repeat([-1, 0], [len(problem.x_train), len(problem.x_validation)])

    def run(seed: int) -> Outcome:
        net = MLPClassifier(
            hidden_layer_sizes=problem.widths[1:-1],
            activation="relu",
            solver="adam",
            alpha=0.0,
            batch_size=problem.batch_size,
            max_iter=many.epochs,
            shuffle=True,
            random_state=seed,
            tol=0.0,
            early_stopping=False,
            n_iter_no_change=many.epochs + 1,
        )
        search = RandomizedSearchCV(
            net,
            {"learning_rate_init": rates},
            n_iter=len(rates),
            cv=PredefinedSplit(part),
            scoring="accuracy",
            refit=False,
            n_jobs=JOBS,
            random_state=seed,
        )
        with warnings.catch_warnings(), parallel_config("loky", inner_max_num_threads=1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is to stop at the last epoch
            start = time.perf_counter()
            search.fit(inputs, targets)
            seconds = time.perf_counter() - start
        found = search.cv_results_
        score_of = dict(zip(found["param_learning_rate_init"], found["mean_test_score"], strict=True))
        return Outcome(seconds, [float(score_of[rate]) for rate in rates])

    yield run


RANDOMIZED_SEARCH = ManyContender(
    name="RandomizedSearchCV",
    on=f"MLPClassifier, n_jobs={JOBS} (processes of one thread, started by the warm-up), one predefined split, "
    "refit=False; NO validation while it trains, one score at the end; Glorot initialisation",
    packages=("sklearn",),
    prepare=prepare,
)
