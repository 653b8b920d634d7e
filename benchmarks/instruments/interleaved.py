"""Interleaved timing: contenders run A B C, A B C, … in one process, so that a busy minute affects all of them alike.

The benchmarks of single operations use this timer. A contender times itself, because some contenders include work
that is not measured, such as the backward pass before an optimizer step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

__all__ = ["interleaved", "timed"]

Timer = Callable[[int], float]
"""Runs once, given the number of the call, and returns seconds."""


def interleaved(
    contenders: Mapping[str, Timer], repetitions: int, *, warm_up: int = 1
) -> dict[str, list[float]]:
    """Return the seconds of each contender in each repetition.

    Args:
        contenders: timers by name, called in this order in every repetition.
        repetitions: number of recorded calls of each contender.
        warm_up: number of calls of each contender before recording starts.

    >>> interleaved({"a": lambda call: 10.0 * call}, 2, warm_up=1)
    {'a': [10.0, 20.0]}
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for call in range(warm_up + repetitions):
        for name, timer in contenders.items():
            elapsed = timer(call)
            if call >= warm_up:
                seconds[name].append(elapsed)
    return seconds


def timed(work: Callable[[], object]) -> float:
    """Run ``work`` once and return its wall time in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
