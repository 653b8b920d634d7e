"""Cost of a training step from interleaved fits: contenders run A B C, A B C, … in one process.

A measurement consists of two complete fits, a short one and a long one, each from new weights. Their difference
divided by the number of additional steps is the *steady* cost of a step, without setup and teardown, which occur once
in both fits. The *gross* cost is the long fit divided by its number of steps.
"""

from __future__ import annotations

import gc
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from contenders.interface import Prepare, Problem, Run, Timing
from instruments.machine import load_average
from instruments.threads import threads

__all__ = ["Configuration", "Lengths", "StepCost", "measure_step_costs"]


@dataclass(frozen=True)
class Lengths:
    """Number of epochs of the short and of the long fit."""

    short: int
    long: int


@dataclass(frozen=True)
class Configuration:
    """One variant of a contender with a number of threads; None keeps the default of the library."""

    prepare: Prepare
    threads: int | None
    label: str = ""


@dataclass(frozen=True)
class StepCost:
    """One measurement, in microseconds per step.

    Args:
        steady: wall time without setup, from the difference of the two fits.
        gross: wall time of the long fit, including setup.
        cpu: processor time of all threads without setup. With one thread, other processes hardly affect it.
        accuracy: validation accuracy after the long fit.
        threads: number of threads; "1 or 2" if the two fits chose differently, which makes the difference unreliable.
        load: load average at the start.
        evidence: output of the long fit that shows which features were on.
    """

    steady: float
    gross: float
    cpu: float
    accuracy: float
    threads: str
    load: float
    evidence: str


def measure_step_costs(
    configurations: Mapping[str, Configuration], problem: Problem, lengths: Lengths, repetitions: int
) -> tuple[dict[str, list[StepCost]], dict[str, str]]:
    """Measure every configuration ``repetitions`` times, interleaved, after one warm-up fit of each.

    The seed of a repetition is its index, for all configurations.

    Returns:
        the measurements of the configurations that completed all repetitions, and the errors of the others.
    """
    costs: dict[str, list[StepCost]] = {name: [] for name in configurations}
    failures: dict[str, str] = {}
    for repetition in range(-1, repetitions):
        for name, configuration in configurations.items():
            if name in failures:
                continue
            try:
                if repetition < 0:
                    with threads(configuration.threads):
                        configuration.prepare(problem, 0)(lengths.short)
                else:
                    costs[name].append(_measure(configuration, problem, lengths, seed=repetition))
            except Exception as cause:
                traceback.print_exc()
                failures[name] = f"{type(cause).__name__}: {cause}"
                del costs[name]
    return costs, failures


def _measure(configuration: Configuration, problem: Problem, lengths: Lengths, seed: int) -> StepCost:
    load = load_average()
    with threads(configuration.threads):
        run = configuration.prepare(problem, seed)
        short, short_cpu = _fit(run, lengths.short, problem)
        long, long_cpu = _fit(run, lengths.long, problem)
        in_use = {fit.threads or torch.get_num_threads() for fit in (short, long)}
    additional_steps = long.steps - short.steps
    return StepCost(
        steady=(long.seconds - short.seconds) / additional_steps * 1e6,
        gross=long.seconds / long.steps * 1e6,
        cpu=(long_cpu - short_cpu) / additional_steps * 1e6,
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
        raise ValueError(
            f"expected {epochs} epochs of {problem.steps_per_epoch} steps, got {timing.steps} steps in total"
        )
    return timing, cpu
