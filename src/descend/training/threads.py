"""How many CPU threads a network's arithmetic should use.

A small network gains nothing from a second thread and, when other programs want the processor, loses
many times its speed waiting for it. A few steps with each number tell.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

__all__ = ["choose_threads", "cores", "using_threads"]

SHORT = 1e-3
"""Seconds. A step shorter than this on one thread is made of operations too small to share."""

WORTH = 1.25
"""More threads must be this many times as fast as fewer. Fewer keep their speed when the machine is shared,
and a clear margin lets the same network get the same number, and so the same bits, on every run."""

HOPELESS = 4.0
"""A number of threads with a step this many times as slow as on one thread is not tried again."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Run with a number of threads, and put the former one back."""
    before = torch.get_num_threads()
    if count == before:
        yield
        return
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def choose_threads(
    step: Callable[[], object], *, most: int | None = None, seconds: float = 0.4, short: float = SHORT
) -> tuple[int, str]:
    """The number of threads with which ``step`` runs fastest, and why.

    A step that is short on one thread stays there. For a longer one, doubling numbers up to the number of cores are
    timed in turn, round after round, so that a passing disturbance meets all alike. Means are compared, not
    medians: threads that wait for a busy core do so rarely and long.

    Args:
        step: one step of training on throw-away copies.
        most: the largest number to try; the cores of this process by default.
        seconds: about how long to measure.
        short: seconds of a step below which it stays on one thread without a measurement.

    >>> choose_threads(lambda: None, most=1)
    (1, 'the only core')
    """
    limit = most or cores()
    if limit == 1:
        return 1, "the only core"
    with using_threads(1):
        step()
        shortest = min(_timed(step) for _ in range(5))
    if shortest < short:
        return 1, f"a step takes {1e6 * shortest:,.0f} µs on one thread, too little to share"
    candidates = [1]
    while candidates[-1] * 2 <= limit:
        candidates.append(candidates[-1] * 2)
    if candidates[-1] != limit:
        candidates.append(limit)
    times: dict[int, list[float]] = {count: [] for count in candidates}
    running = list(candidates)
    began, rounds = time.perf_counter(), 0
    while rounds < 3 or (rounds < 12 and time.perf_counter() - began < seconds):
        for count in list(running):
            with using_threads(count):
                step()
                for _ in range(3):
                    times[count].append(_timed(step))
                    if count > 1 and times[count][-1] > HOPELESS * statistics.median(times[1]):
                        running.remove(count)
                        break
        rounds += 1
    means = {count: statistics.fmean(taken) for count, taken in times.items()}
    chosen = 1
    for count in running[1:]:
        if means[chosen] / means[count] >= WORTH:
            chosen = count
    shown = ", ".join(f"{count}: {1e6 * means[count]:,.0f} µs" for count in candidates)
    return chosen, f"mean time of a step with threads {shown}"


def _timed(step: Callable[[], object]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start
