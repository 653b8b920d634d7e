"""The number of CPU threads that is fastest for a network.

A small network gains nothing from a second thread and, when other programs use the processor, becomes several times
slower waiting for it. The number is chosen by timing a few steps with each candidate.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from descend.process import is_fork
from descend.training.timing import seconds_of, shortest_seconds

__all__ = ["choose_threads", "cores", "usable_threads", "using_threads"]

MIN_STEP_SECONDS = 1e-3
"""A step that takes less time than this on one thread consists of operations too small to parallelize."""

MIN_SPEEDUP = 1.25
"""More threads must be this many times as fast as fewer ones. Fewer threads keep their speed on a shared machine,
and a clear margin assigns the same number, and so the same bits, to the same network on every run."""

HOPELESS_SLOWDOWN = 4.0
"""A number of threads with a step this many times as slow as on one thread is not timed again."""


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_threads() -> int:
    """Return the number of threads that PyTorch may use: one per core, but 1 in a forked process.

    The threads of PyTorch's pool do not exist in a fork (:mod:`descend.process.forks`), and waiting for them deadlocks.
    """
    return 1 if is_fork() else cores()


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Context with a given number of threads, but 1 in a forked process; on exit the previous number is restored."""
    before = torch.get_num_threads()
    count = 1 if is_fork() else count
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(
    step: Callable[[], object],
    *,
    most: int | None = None,
    seconds: float = 0.4,
    min_step_seconds: float = MIN_STEP_SECONDS,
) -> tuple[int, str]:
    """Return the number of threads with which ``step`` runs fastest, and the reason.

    A short step uses one thread. For a longer one, powers of two up to the number of cores are timed in turn, in several
    rounds, so that a temporary disturbance affects all of them. Means are compared instead of medians, since threads that
    wait for a busy core do so rarely and for a long time.

    Args:
        step: one step of training on temporary copies.
        most: the largest number to consider. Default: the cores of this process.
        seconds: the approximate duration of the measurement. Default 0.4.
        min_step_seconds: a step that takes less time than this uses one thread. Default 0.001.

    >>> choose_threads(lambda: None, most=1)
    (1, 'the only core')
    """
    if is_fork():
        return 1, "the process is a fork, in which PyTorch has one thread"
    limit = most or cores()
    if limit == 1:
        return 1, "the only core"
    with using_threads(1):
        step()
        shortest = shortest_seconds(step, repeats=5)
    if shortest < min_step_seconds:
        return 1, f"a step takes {1e6 * shortest:,.0f} µs on one thread, too little to parallelize"
    candidates = [1]
    while candidates[-1] * 2 <= limit:
        candidates.append(candidates[-1] * 2)
    if candidates[-1] != limit:
        candidates.append(limit)
    times: dict[int, list[float]] = {count: [] for count in candidates}
    running = list(candidates)
    started, rounds = time.perf_counter(), 0
    while rounds < 3 or (rounds < 12 and time.perf_counter() - started < seconds):
        for count in list(running):
            with using_threads(count):
                step()
                for _ in range(3):
                    times[count].append(seconds_of(step))
                    if count > 1 and times[count][-1] > HOPELESS_SLOWDOWN * statistics.median(times[1]):
                        running.remove(count)
                        break
        rounds += 1
    means = {count: statistics.fmean(own) for count, own in times.items()}
    chosen = 1
    for count in running[1:]:
        if means[chosen] / means[count] >= MIN_SPEEDUP:
            chosen = count
    shown = ", ".join(f"{count}: {1e6 * means[count]:,.0f} µs" for count in candidates)
    return chosen, f"mean time of a step with threads {shown}"
