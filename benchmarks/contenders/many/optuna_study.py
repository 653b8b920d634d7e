"""An Optuna study with the DataLoader loop as its objective and given learning rates.

``enqueue_trial`` makes it try the same configurations as all contenders. Trials are stored in memory, without
intermediate reports, pruning or logging.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contenders import dataloader_loop
from contenders.many.interface import Many, ManyContender, Outcome, Runner

__all__ = ["OPTUNA"]


@contextmanager
def prepare(many: Many) -> Iterator[Runner]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    learning_rates = [variant.learning_rate for variant in many.variants]

    def run(seed: int) -> Outcome:
        steps = 0

        def objective(trial: Any) -> float:
            nonlocal steps
            learning_rate = trial.suggest_float(
                "lr", min(learning_rates) / 2, max(learning_rates) * 2, log=True
            )
            fit = dataloader_loop.with_item(many.problem, seed, learning_rate=learning_rate)(many.epochs)
            steps += fit.steps
            return fit.validation_accuracy

        start = time.perf_counter()
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=seed),
            pruner=optuna.pruners.NopPruner(),
        )
        for learning_rate in learning_rates:
            study.enqueue_trial({"lr": learning_rate})
        study.optimize(objective, n_trials=len(learning_rates))
        seconds = time.perf_counter() - start
        tried = [trial.params["lr"] for trial in study.trials]
        if tried != learning_rates:
            raise RuntimeError("the study did not try the enqueued learning rates in their order")
        return Outcome(seconds, [trial.value for trial in study.trials], steps)

    yield run


OPTUNA = ManyContender(
    name="optuna",
    on="study.optimize with the dataloader loop as objective, learning rates enqueued, in memory, no pruning or logging; "
    "validation after each epoch",
    packages=("torch", "optuna"),
    prepare=prepare,
    count=8,
)
