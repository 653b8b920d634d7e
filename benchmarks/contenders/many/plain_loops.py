"""Loops by hand, one network after another: the one of the tutorials, and the best one, also in processes.

They are those of :mod:`contenders.dataloader_loop` and :mod:`contenders.index_loop`, with a rate of their own.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from contenders import dataloader_loop, index_loop
from contenders.contract import Timing
from contenders.many.contract import Many, ManyContender, Outcome, Runner, Variant

__all__ = ["DATALOADER", "PROCESSES", "plain_loop"]

WORKERS = 2


@contextmanager
def with_dataloader(many: Many) -> Iterator[Runner]:
    def run(seed: int) -> Outcome:
        start = time.perf_counter()
        fits = [
            dataloader_loop.with_item(many.problem, seed, rate=variant.rate)(many.epochs)
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
    """The processes are started, and have imported everything and trained once, before the clock starts."""
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
        rate=variant.rate,
        network=variant.build,
        device=many.device,
    )
    return fit(many.epochs)


_given: list[Many] = []
"""In a worker process: what it was started with."""


def _start_worker(many: Many) -> None:
    torch.set_num_threads(1)
    _given[:] = [many]


def _fit_in_worker(job: tuple[Variant, int]) -> Timing:
    return _fit(_given[0], *job)


def _outcome(fits: list[Timing], seconds: float) -> Outcome:
    return Outcome(seconds, [fit.validation_accuracy for fit in fits], sum(fit.steps for fit in fits))


def plain_loop(threads: int, share: int | None = None) -> ManyContender:
    """The best loop, one network after another in this process."""
    return ManyContender(
        name=f"plain loop, {threads} thread{'s' if threads > 1 else ''}",
        on="rows drawn by index from memory, an epoch at once; fused Adam on one vector; losses kept as tensors",
        packages=("torch",),
        prepare=with_index,
        share=share,
        threads=threads,
    )


DATALOADER = ManyContender(
    name="dataloader loop",
    on="DataLoader(TensorDataset, shuffle=True), workers 0, Adam as it comes, loss.item() at every step; "
    "validation each epoch; one network after another",
    packages=("torch",),
    prepare=with_dataloader,
    share=8,
)
PROCESSES = ManyContender(
    name=f"plain loop in {WORKERS} processes",
    on=f"the best plain loop in {WORKERS} of {len(os.sched_getaffinity(0))} cores' processes of one thread, which are "
    "started before the clock; rows drawn by index, fused Adam on one vector; validation each epoch",
    packages=("torch",),
    prepare=with_index_in_processes,
)
