"""descend: many networks with one call of ``train_many``, or a single network with ``train``.

The entire call is timed: reading the arrays, choosing engine and threads, training, and the final evaluation of every
network on training and validation rows. As for all contenders, the accuracy is that after the last epoch, although
descend keeps the weights of the best epoch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from contenders.interface import Problem
from contenders.many.interface import Many, ManyContender, Outcome, Runner, Variant

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
            seeds=seed if seeds is None else [seed + offset for offset in seeds],
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
    """Return the common recipe: PyTorch's initialization, Adam at a constant learning rate, unscaled inputs."""
    import descend

    problem: Problem = many.problem
    return descend.Recipe(
        data={"scale": "none", "batch_size": problem.batch_size},
        model=dict(variant.model),
        init={"name": "torch", "output_gain": 1.0},
        loss={"name": "cross_entropy", "label_smoothing": 0.0},
        optimizer={"name": "adam", "lr": variant.learning_rate},
        schedule={"name": "constant", "warmup": 0.0},
        regularize={"weight_decay": 0.0},
        stop={"max_epochs": many.epochs, "patience": "none", "average": 0.0},
        engine={"device": many.device},
    )


def outcome_of(runs: Sequence[Any], seconds: float, many: Many) -> Outcome:
    """Return the outcome that the runs record.

    Raises:
        RuntimeError: a history is incomplete, or an epoch has no validation.
    """
    lengths = {len(run.history) for run in runs}
    if lengths != {many.epochs} or any("validation" not in record for run in runs for record in run.history):
        raise RuntimeError(
            f"expected histories of {many.epochs} validated epochs, got {sorted(lengths)} epochs"
        )
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


_ON = "validation after each epoch, history and best weights of every run ON; no run folders or progress bar"


def train_many(
    name: str = "descend.train_many",
    *,
    engine: str = "auto",
    workers: int | str = "auto",
    seeds: Sequence[int] | None = None,
) -> ManyContender:
    """Train all networks with one call; ``seeds``, one per network, are added to the seed of the repetition."""
    return ManyContender(
        name=name,
        on=f'{_ON}; engine "{engine}", workers {workers}, automatic number of threads',
        packages=("torch", "descend"),
        prepare=partial(prepare, engine=engine, workers=workers, seeds=seeds),
    )


def one_run(index: int, name: str) -> ManyContender:
    """Train a single network with ``descend.train``."""
    return ManyContender(
        name=name,
        on=f"{_ON}; automatic number of threads",
        packages=("torch", "descend"),
        prepare=prepare_one,
        count=1,
        first=index,
    )


TRAIN_MANY = train_many()
ONE_RUN = "descend.train"
"""Prefix of the names of single runs."""
