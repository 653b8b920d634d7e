"""scikit-learn's RandomizedSearchCV over MLPClassifier: one predefined split, no refit, two processes.

scikit-learn samples without replacement from a list, so that with as many samples as learning rates it tries each of
them once. It scores each network once, after training; there is no validation during training.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from contenders.many.interface import Many, ManyContender, Outcome, Runner

__all__ = ["RANDOMIZED_SEARCH"]

JOBS = 2


@contextmanager
def prepare(many: Many) -> Iterator[Runner]:
    from joblib import parallel_config
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import PredefinedSplit, RandomizedSearchCV
    from sklearn.neural_network import MLPClassifier

    problem, learning_rates = many.problem, [variant.learning_rate for variant in many.variants]
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
            {"learning_rate_init": learning_rates},
            n_iter=len(learning_rates),
            cv=PredefinedSplit(part),
            scoring="accuracy",
            refit=False,
            n_jobs=JOBS,
            random_state=seed,
        )
        with warnings.catch_warnings(), parallel_config("loky", inner_max_num_threads=1):
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is meant to stop at the last epoch
            start = time.perf_counter()
            search.fit(inputs, targets)
            seconds = time.perf_counter() - start
        results = search.cv_results_
        score_of = dict(zip(results["param_learning_rate_init"], results["mean_test_score"], strict=True))
        return Outcome(seconds, [float(score_of[learning_rate]) for learning_rate in learning_rates])

    yield run


RANDOMIZED_SEARCH = ManyContender(
    name="RandomizedSearchCV",
    on=f"MLPClassifier, n_jobs={JOBS} (single-threaded processes, started in the warm-up), one predefined split, "
    "refit=False; NO validation during training, one score at the end; Glorot initialization",
    packages=("sklearn",),
    prepare=prepare,
)
