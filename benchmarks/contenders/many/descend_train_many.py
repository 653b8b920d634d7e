"""descend: many variants by one call of ``train_many``, or a single one by ``train``.

The whole call is on the clock: reading the arrays, choosing engine and threads, training, the final evaluation of
every network on training and validation rows. The accuracy is that after the last epoch, as everybody's. (The
weights that are kept are the best epoch's.)
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from contenders.contract import Problem
from contenders.many.contract import Many, ManyContender, Outcome, Runner, Variant

__all__ = ["ONE_RUN", "TRAIN_MANY", "one_run", "train_many"]


@contextmanager
def prepare(
    many: Many, engine: str, workers: int | str, seeds: Sequence[int] | None = None
) -> Iterator[Runner]:
    import descend.many

    def run(seed: int) -> Outcome:
        problem = many.problem
        recipes = [recipe_for(variant, many) for variant in many.variants]
        start = time.perf_counter()
        runs = descend.many.train_many(
            recipes,
            (problem.x_train, problem.y_train),
            validation=(problem.x_validation, problem.y_validation),
            seeds=seed if seeds is None else [seed + each for each in seeds],
            engine=engine,
            workers=workers,
        )
        return outcome_of(runs, time.perf_counter() - start, many)

    yield run


@contextmanager
def prepare_one(many: Many) -> Iterator[Runner]:
    import descend

    def run(seed: int) -> Outcome:
        problem = many.problem
        start = time.perf_counter()
        trained = descend.train(
            (problem.x_train, problem.y_train),
            recipe_for(many.variants[0], many),
            validation=(problem.x_validation, problem.y_validation),
            seed=seed,
        )
        return outcome_of([trained], time.perf_counter() - start, many)

    yield run


def recipe_for(variant: Variant, many: Many) -> Any:
    """As everybody's: PyTorch's initialisation, plain Adam at one rate to the last epoch, the inputs as they come."""
    import descend

    problem: Problem = many.problem
    return descend.Recipe(
        data={"scale": "none", "batch_size": problem.batch_size},
        model=dict(variant.model),
        init={"name": "torch", "output_gain": 1.0},
        loss={"name": "cross_entropy", "label_smoothing": 0.0},
        optimizer={"name": "adam", "lr": variant.rate},
        schedule={"name": "constant", "warmup": 0.0},
        regularize={"weight_decay": 0.0},
        stop={"max_epochs": many.epochs, "patience": "none", "average": 0.0},
        engine={"device": many.device},
    )


def outcome_of(runs: Sequence[Any], seconds: float, many: Many) -> Outcome:
    """What the runs say of themselves.

    Raises:
        RuntimeError: a history or a validation is missing.
    """
    lengths = {len(run.history) for run in runs}
    if lengths != {many.epochs} or any("validation" not in record for run in runs for record in run.history):
        raise RuntimeError(f"histories of {sorted(lengths)} epochs, {many.epochs} with validation expected")
    engines = Counter(
        f"{run.environment.get('engine', {}).get('name', 'train')} on {run.environment['threads']} thread(s)"
        for run in runs
    )
    return Outcome(
        seconds,
        [run.history[-1]["validation"]["accuracy"] for run in runs],
        sum(run.metrics["steps"] for run in runs),
        f"{len(runs)} histories of {many.epochs} validated epochs; "
        + ", ".join(f"{count} {engine}" for engine, count in engines.items()),
    )


_ON = "validation each epoch, history and best weights of every run ON; no run folders, no bar"


def train_many(
    name: str = "descend.train_many",
    *,
    engine: str = "auto",
    workers: int | str = "auto",
    seeds: Sequence[int] | None = None,
) -> ManyContender:
    """All variants by one call; ``seeds`` are added to that of the turn, a variant each."""
    return ManyContender(
        name=name,
        on=f'{_ON}; engine "{engine}", workers {workers}, threads chosen by itself',
        packages=("torch", "descend"),
        prepare=partial(prepare, engine=engine, workers=workers, seeds=seeds),
    )


def one_run(number: int, name: str) -> ManyContender:
    """A single variant by ``descend.train``."""
    return ManyContender(
        name=name,
        on=f"{_ON}; threads chosen by itself",
        packages=("torch", "descend"),
        prepare=prepare_one,
        share=1,
        first=number,
    )


TRAIN_MANY = train_many()
ONE_RUN = "descend.train"
"""The head of the names of single runs."""
