"""Optuna's study with the DataLoader loop as its objective, on rates that are handed to it.

``enqueue_trial`` makes it try the same configurations as everyone. Trials are kept in memory, nothing is reported
within a trial, nothing is pruned, nothing is logged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contenders import dataloader_loop
from contenders.many.contract import Many, ManyContender, Outcome, Runner

__all__ = ["OPTUNA"]


@contextmanager
def prepare(many: Many) -> Iterator[Runner]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    rates = [variant.rate for variant in many.variants]

    def run(seed: int) -> Outcome:
        steps = 0

        def objective(trial: Any) -> float:
            nonlocal steps
            rate = trial.suggest_float("lr", min(rates) / 2, max(rates) * 2, log=True)
            fit = dataloader_loop.with_item(many.problem, seed, rate=rate)(many.epochs)
            steps += fit.steps
            return fit.validation_accuracy

        start = time.perf_counter()
        study = optuna.create_study(
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=seed),
            pruner=optuna.pruners.NopPruner(),
        )
        for rate in rates:
            study.enqueue_trial({"lr": rate})
        study.optimize(objective, n_trials=len(rates))
        seconds = time.perf_counter() - start
        tried = [trial.params["lr"] for trial in study.trials]
        if tried != rates:
            raise RuntimeError("the study tried other rates than those it was given")
        return Outcome(seconds, [trial.value for trial in study.trials], steps)

    yield run


OPTUNA = ManyContender(
    name="optuna",
    on="study.optimize, the dataloader loop as objective, the rates enqueued, in memory, no pruning, no log; "
    "validation each epoch",
    packages=("torch", "optuna"),
    prepare=prepare,
    share=8,
)
