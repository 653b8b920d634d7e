"""Hand-written loops that train one network after another: the DataLoader loop and the index loop, also in processes.

The loops are those of :mod:`contenders.dataloader_loop` and :mod:`contenders.index_loop`, with the learning rate of
each network.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from contenders import dataloader_loop, index_loop
from contenders.interface import Timing
from contenders.many.interface import Many, ManyContender, Outcome, Runner, Variant

__all__ = ["DATALOADER", "PROCESSES", "plain_loop"]

WORKERS = 2


@contextmanager
def with_dataloader(many: Many) -> Iterator[Runner]:
    def run(seed: int) -> Outcome:
        start = time.perf_counter()
        fits = [
            dataloader_loop.with_item(many.problem, seed, learning_rate=variant.learning_rate)(many.epochs)
            for variant in many.variants
        ]
        return _outcome(fits, time.perf_counter() - start)

    yield run


@contextmanager
def with_index(many: Many) -> Iterator[Runner]:
    def run(seed: int) -> Outcome:
        start = time.perf_counter()
        fits = [_fit(many, variant, seed) for variant in many.variants]
        return _outcome(fits, time.perf_counter() - start)

    yield run


@contextmanager
def with_index_in_processes(many: Many) -> Iterator[Runner]:
    """Train in worker processes that are started, and have trained once, before timing starts."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(WORKERS, _start_worker, (many,)) as pool:
        pool.map(_fit_in_worker, [(variant, 0) for variant in many.variants[:WORKERS]], chunksize=1)

        def run(seed: int) -> Outcome:
            start = time.perf_counter()
            fits = pool.map(_fit_in_worker, [(variant, seed) for variant in many.variants], chunksize=1)
            return _outcome(fits, time.perf_counter() - start)

        yield run


def _fit(many: Many, variant: Variant, seed: int) -> Timing:
    fit = index_loop.prepare(
        many.problem,
        seed,
        gather="epoch",
        flat=True,
        learning_rate=variant.learning_rate,
        network=variant.build,
        device=many.device,
    )
    return fit(many.epochs)


_worker_networks: list[Many] = []
"""In a worker process: the networks it was started with."""


def _start_worker(many: Many) -> None:
    torch.set_num_threads(1)
    _worker_networks[:] = [many]


def _fit_in_worker(job: tuple[Variant, int]) -> Timing:
    return _fit(_worker_networks[0], *job)


def _outcome(fits: list[Timing], seconds: float) -> Outcome:
    return Outcome(seconds, [fit.validation_accuracy for fit in fits], sum(fit.steps for fit in fits))


def plain_loop(threads: int, count: int | None = None) -> ManyContender:
    """Train one network after another with the index loop in this process."""
    return ManyContender(
        name=f"plain loop, {threads} thread{'s' if threads > 1 else ''}",
        on="rows selected by index in memory, one epoch at a time; fused Adam on one vector; losses kept as tensors",
        packages=("torch",),
        prepare=with_index,
        count=count,
        threads=threads,
    )


DATALOADER = ManyContender(
    name="dataloader loop",
    on="DataLoader(TensorDataset, shuffle=True), workers 0, Adam with its defaults, loss.item() at every step; "
    "validation after each epoch; one network after another",
    packages=("torch",),
    prepare=with_dataloader,
    count=8,
)
PROCESSES = ManyContender(
    name=f"plain loop in {WORKERS} processes",
    on=f"the best plain loop in {WORKERS} single-threaded processes on {len(os.sched_getaffinity(0))} cores, started "
    "before timing; rows selected by index, fused Adam on one vector; validation after each epoch",
    packages=("torch",),
    prepare=with_index_in_processes,
)
