"""scikit-learn's MLPClassifier, which computes with NumPy, without validation during training.

It can evaluate during training only with ``early_stopping``, which holds out training rows and is therefore off. This
is the only contender without validation after each epoch.
"""

from __future__ import annotations

import time
import warnings

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing

__all__ = ["SKLEARN"]


def prepare(problem: Problem, seed: int) -> Run:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier

    def run(epochs: int) -> Timing:
        net = MLPClassifier(
            hidden_layer_sizes=problem.widths[1:-1],
            activation="relu",
            solver="adam",
            alpha=0.0,
            batch_size=problem.batch_size,
            learning_rate_init=LEARNING_RATE,
            max_iter=epochs,
            shuffle=True,
            random_state=seed,
            tol=0.0,
            early_stopping=False,
            n_iter_no_change=epochs + 1,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is meant to stop at the last epoch
            start = time.perf_counter()
            net.fit(problem.x_train, problem.y_train)
            seconds = time.perf_counter() - start
        accuracy = float(net.score(problem.x_validation, problem.y_validation))
        return Timing(net.n_iter_ * problem.steps_per_epoch, seconds, accuracy)

    return run


SKLEARN = Contender(
    name="sklearn",
    on="NO validation during training (it would hold out training rows); early stopping and L2 off; "
    "Glorot initialization",
    packages=("sklearn",),
    variants={"": prepare},
    sizes=("small",),
)
