"""Second-order methods: gradient evaluations and time to a target.

Logistic regression on the digits with an ℓ2 penalty, which is convex, so that the minimum is known to ten digits. A pass
is one evaluation of the gradient on all rows; a step on a batch counts as its fraction of a pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from descend.gallery.datasets import digits
from descend.gallery.intervals import Estimate, mean, ratio, repetitions
from descend.gallery.picture import Axis, Bars, Line, Panel, Picture, numbers
from descend.gallery.training import shuffled
from descend.optim import adam, lbfgs, sgd

__all__ = ["TARGETS", "Measurement", "Trace", "measure", "picture"]

TARGETS = (1e-1, 1e-2, 1e-4, 1e-6)
"""Excess losses from a rough to a very accurate solution."""

PENALTY = 1e-3

GRIDS = {"SGD": (0.05, 0.1, 0.2, 0.5), "Adam": (0.003, 0.01, 0.03)}


@dataclass(frozen=True)
class Trace:
    """Excess loss with the passes and the seconds spent."""

    passes: list[float]
    seconds: list[float]
    excess: list[float]

    def first(self, target: float) -> tuple[float, float]:
        """Return the passes and seconds to the target; infinite if it is not reached."""
        for passes, seconds, excess in zip(self.passes, self.seconds, self.excess, strict=True):
            if excess <= target:
                return passes, seconds
        return math.inf, math.inf


@dataclass(frozen=True)
class Measurement:
    """A trace per seed, by method."""

    traces: dict[str, list[Trace]]


class Problem:
    """ℓ2-penalized multinomial logistic regression with a bias, W of shape (65, 10)."""

    def __init__(self, seed: int, rows: int) -> None:
        x, self.y = digits(seed, train=rows).train
        self.x = torch.cat([x, torch.ones(rows, 1)], 1)
        self.least = self._minimum()

    def loss(self, w: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Return the objective on all rows or on some."""
        x, y = (self.x, self.y) if chosen is None else (self.x[chosen], self.y[chosen])
        return torch.nn.functional.cross_entropy(x @ w, y) + 0.5 * PENALTY * w.square().sum()

    def exactly(self, w: Tensor) -> float:
        """Return the objective in float64."""
        w = w.detach().double()
        loss = torch.nn.functional.cross_entropy(self.x.double() @ w, self.y)
        return float(loss + 0.5 * PENALTY * w.square().sum())

    def _minimum(self) -> float:
        w = torch.zeros(self.x.shape[1], 10, dtype=torch.float64, requires_grad=True)
        x = self.x.double()

        def loss() -> Any:
            return torch.nn.functional.cross_entropy(x @ w, self.y) + 0.5 * PENALTY * w.square().sum()

        lbfgs([w], history_size=30, max_iter=800).step(loss)
        return self.exactly(w)

    @property
    def curvature(self) -> float:
        """Upper bound of the largest curvature: ½ λ_max(XᵀX/m) plus the penalty."""
        return 0.5 * float(torch.linalg.matrix_norm(self.x, 2)) ** 2 / len(self.x) + PENALTY


def measure(
    seed: int = 0, *, seeds: int = 3, rows: int = 1000, passes: int = 60, max_passes: int = 300
) -> Measurement:
    """Run each method; SGD and Adam use the best of a grid of constant learning rates, selected on the first seed.

    Args:
        seed: seed of all random numbers.
        seeds: number of data sets.
        rows: rows of each data set.
        passes: passes of the stochastic methods.
        max_passes: passes of gradient descent and L-BFGS.
    """
    traces: dict[str, list[Trace]] = {name: [] for name in ("gradient descent", "SGD", "Adam", "L-BFGS")}
    lrs: dict[str, float] = {}
    for each in repetitions(seed, seeds):
        problem = Problem(each, rows)
        traces["gradient descent"].append(_whole(problem, max_passes))
        for name, grid in GRIDS.items():
            if name not in lrs:
                tried = {lr: _stochastic(problem, name, lr, passes, each) for lr in grid}
                lrs[name] = min(tried, key=lambda lr: tried[lr].excess[-1])
            traces[name].append(_stochastic(problem, name, lrs[name], passes, each))
        traces["L-BFGS"].append(_lbfgs(problem, max_passes))
    return Measurement(traces)


def _begin(problem: Problem) -> Tensor:
    return torch.zeros(problem.x.shape[1], 10, requires_grad=True)


def _whole(problem: Problem, max_passes: int) -> Trace:
    w = _begin(problem)
    optimizer = sgd([w], lr=1.0 / problem.curvature)
    trace, spent = Trace([0.0], [0.0], [problem.exactly(w) - problem.least]), 0.0
    for step in range(1, max_passes + 1):
        start = perf_counter()
        optimizer.zero_grad()
        problem.loss(w).backward()
        optimizer.step()
        spent += perf_counter() - start
        _note(trace, float(step), spent, problem, w)
    return trace


def _stochastic(problem: Problem, name: str, lr: float, passes: int, seed: int, batch: int = 50) -> Trace:
    w = _begin(problem)
    optimizer = sgd([w], lr=lr) if name == "SGD" else adam([w], lr=lr, fused=True)
    trace, spent = Trace([0.0], [0.0], [problem.exactly(w) - problem.least]), 0.0
    count = len(problem.x)
    stride = max(1, count // batch // 4)
    for epoch in range(passes):
        for at, chosen in enumerate(shuffled(seed, count, epoch, batch), 1):
            start = perf_counter()
            optimizer.zero_grad()
            problem.loss(w, chosen).backward()
            optimizer.step()
            spent += perf_counter() - start
            if at % stride == 0:
                _note(trace, epoch + at * batch / count, spent, problem, w)
    return trace


def _lbfgs(problem: Problem, max_passes: int) -> Trace:
    """Run L-BFGS; every evaluation counts, including those of the line search, and the best value so far is recorded.

    All iterations belong to one call of ``step``, so that no gradient is computed twice.
    """
    w = _begin(problem)
    optimizer = lbfgs([w], max_iter=max_passes)
    trace = Trace([0.0], [0.0], [problem.exactly(w) - problem.least])
    start, noting = perf_counter(), 0.0

    def closure() -> Any:
        nonlocal noting
        optimizer.zero_grad()
        value = problem.loss(w)
        value.backward()
        pause = perf_counter()
        if len(trace.passes) <= max_passes:
            _note(trace, float(len(trace.passes)), pause - start - noting, problem, w)
            trace.excess[-1] = min(trace.excess[-2:])
        noting += perf_counter() - pause
        return value

    optimizer.step(closure)
    return trace


def _note(trace: Trace, passes: float, seconds: float, problem: Problem, w: Tensor) -> None:
    trace.passes.append(passes)
    trace.seconds.append(seconds)
    trace.excess.append(problem.exactly(w) - problem.least)


_COLORS = {"gradient descent": "s2", "SGD": "s3", "Adam": "s4", "L-BFGS": "s1"}


def picture(result: Measurement) -> Picture:
    """Return panels of the excess loss by pass and by time, and of the passes to each target."""
    by_pass, by_time = [], []
    for name, traces in result.traces.items():
        one = traces[0]
        excess = numbers((max(value, 0.0) for value in one.excess), above=1e-9)
        by_pass.append(Line(numbers(one.passes), excess, name, _COLORS[name]))
        by_time.append(Line(numbers(1e3 * value for value in one.seconds), excess, name, _COLORS[name]))
    needed = {name: [_needed(traces, target) for target in TARGETS] for name, traces in result.traces.items()}
    bars = Panel(
        "Passes over the data to a target",
        tuple(
            Bars(
                tuple(f"{target:g}" for target in TARGETS),
                numbers(estimate.value for estimate in needed[name]),
                name,
                _COLORS[name],
            )
            for name in result.traces
        ),
        Axis("excess loss"),
        Axis("passes", log=True),
        shape="wide",
        note=f"Means of {len(next(iter(result.traces.values())))} data sets. No bar: not reached on every data "
        "set within the passes allowed.",
    )
    slow = ratio(
        min(one.first(TARGETS[2])[0], one.passes[-1]) / other.first(TARGETS[2])[0]
        for one, other in zip(result.traces["gradient descent"], result.traces["L-BFGS"], strict=True)
    )
    rough = {name: needed[name][0].value for name in needed}
    fine = {name: needed[name][2].value for name in needed}
    milliseconds = {
        name: mean(1e3 * trace.first(TARGETS[0])[1] for trace in traces)
        for name, traces in result.traces.items()
    }
    never = all(trace.first(TARGETS[2])[0] == math.inf for trace in result.traces["gradient descent"])
    return Picture(
        name="second_order",
        title="Second-order methods: gradient evaluations and time to a target",
        claim="Newton-like methods are insensitive to conditioning, but expensive per step; SGD reaches a solution of medium "
        "accuracy sooner.",
        see="SGD and Adam reach a rough solution first and then stay at their noise floor. L-BFGS, with its estimate of the "
        "curvature, continues at the same pace; gradient descent is slow.",
        number=f"passes of gradient descent over those of L-BFGS, to {TARGETS[2]:g}"
        + (", at least" if never else ""),
        value=slow,
        finding=f"Passes to an excess loss of {TARGETS[0]:g}: {_listing(rough)}; to {TARGETS[2]:g}: {_listing(fine)}. "
        f"Gradient descent takes {'more than ' if never else ''}{slow} times as many passes as L-BFGS. "
        f"Milliseconds to {TARGETS[0]:g}: {_listing({name: each.value for name, each in milliseconds.items()})}.",
        supported=(slow.low or slow.value) > 1.0
        and fine["L-BFGS"] < min(value for name, value in fine.items() if name != "L-BFGS")
        and rough["SGD"] < min(rough["L-BFGS"], rough["gradient descent"]),
        panels=(
            Panel(
                "By pass over the data",
                tuple(by_pass),
                Axis("passes", ends=(0, 150)),
                Axis("excess loss", log=True, ends=(1e-8, 5)),
            ),
            Panel(
                "By time",
                tuple(by_time),
                Axis("milliseconds, one thread", ends=(0, 400)),
                Axis("excess loss", log=True, ends=(1e-8, 5)),
            ),
            bars,
        ),
    )


def _needed(traces: list[Trace], target: float) -> Estimate:
    return mean(trace.first(target)[0] for trace in traces)


def _listing(values: dict[str, float]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if value < math.inf else f"{name} not reached" for name, value in values.items()
    )
