"""Taking turns: contenders measured A B C, A B C, … in one process, so that a busy minute hits them all.

One turn of a contender is two whole fits, a short one and a long one, each from fresh weights. Their
difference, divided by the additional steps, is the *steady* cost of a step: setup and tear-down, which both
fits have once, drop out. The long fit divided by its steps is the *gross* cost.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from contenders.contract import Prepare, Problem, Run, Timing
from instruments.machine import load_average
from instruments.threads import threads

__all__ = ["Entrant", "Lengths", "Turn", "take_turns"]


@dataclass(frozen=True)
class Lengths:
    """Epochs of the short and of the long fit."""

    short: int
    long: int


@dataclass(frozen=True)
class Entrant:
    """A contender ready to start: one variant on one number of threads; None leaves the library's default."""

    prepare: Prepare
    threads: int | None
    label: str = ""


@dataclass(frozen=True)
class Turn:
    """What one turn measured, in microseconds a step.

    Args:
        steady: wall time, from the difference of the two fits.
        gross: wall time of the long fit, whole.
        cpu: processor time of all threads, from the difference. On one thread others disturb it little.
        accuracy: on the validation rows after the long fit.
        threads: in use; "1 or 2" if the fits chose differently, which spoils their difference.
        load: the machine's load average when the turn began.
        evidence: what the long fit left behind.
    """

    steady: float
    gross: float
    cpu: float
    accuracy: float
    threads: str
    load: float
    evidence: str


def take_turns(
    entrants: Mapping[str, Entrant], problem: Problem, lengths: Lengths, repetitions: int
) -> tuple[dict[str, list[Turn]], dict[str, str]]:
    """Measure every entrant ``repetitions`` times, in turns, after a warm-up of each.

    The seed of a repetition is its number, for everybody.

    Returns:
        the turns of those that finished all of them, and the reason why each of the others did not.
    """
    turns: dict[str, list[Turn]] = {name: [] for name in entrants}
    failures: dict[str, str] = {}
    for repetition in range(-1, repetitions):
        for name, entrant in entrants.items():
            if name in failures:
                continue
            try:
                if repetition < 0:
                    with threads(entrant.threads):
                        entrant.prepare(problem, 0)(lengths.short)
                else:
                    turns[name].append(_turn(entrant, problem, lengths, seed=repetition))
            except Exception as cause:
                traceback.print_exc()
                failures[name] = f"{type(cause).__name__}: {cause}"
                del turns[name]
    return turns, failures


def _turn(entrant: Entrant, problem: Problem, lengths: Lengths, seed: int) -> Turn:
    load = load_average()
    with threads(entrant.threads):
        run = entrant.prepare(problem, seed)
        short, short_cpu = _fit(run, lengths.short, problem)
        long, long_cpu = _fit(run, lengths.long, problem)
        in_use = {each.threads or torch.get_num_threads() for each in (short, long)}
    more_steps = long.steps - short.steps
    return Turn(
        steady=(long.seconds - short.seconds) / more_steps * 1e6,
        gross=long.seconds / long.steps * 1e6,
        cpu=(long_cpu - short_cpu) / more_steps * 1e6,
        accuracy=long.validation_accuracy,
        threads=" or ".join(map(str, sorted(in_use))),
        load=load,
        evidence=long.evidence,
    )


def _fit(run: Run, epochs: int, problem: Problem) -> tuple[Timing, float]:
    gc.collect()
    cpu = time.process_time()
    timing = run(epochs)
    cpu = time.process_time() - cpu
    if timing.steps != epochs * problem.steps_per_epoch:
        raise ValueError(f"did {timing.steps} steps, not {epochs} epochs of {problem.steps_per_epoch}")
    return timing, cpu
