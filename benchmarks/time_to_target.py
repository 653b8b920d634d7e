"""How long optimizers take to a loss that a tuned baseline reaches: in seconds, and in gradients.

    python benchmarks/time_to_target.py [--only mlp] [--trials 8] [--seeds 5] [--out benchmarks/results/time-to-target]

Every optimizer gets the same number of trials of its settings, quasi-random points of a box (Sobol): the rate within the
same four decades for all of first order, batch size, constant or cosine rate. The baseline, Adam, is tuned first by its last
loss; its loss after three quarters of the time, the worst over fresh seeds, is the target. The others are tuned by the time to
it, or by their last loss where they never reach it. The best settings are then run over the same fresh seeds, the
optimizers in turns. Measuring the loss of all rows is not on the clock. One thread; float32.

A gradient is that of the loss of all rows: an epoch of SGD counts for one. A loss alone counts for a third, a product with a
curvature matrix for two.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from torch import nn

from descend import optim
from descend.optim import Rows
from instruments import machine
from instruments.quartiles import Quartiles
from instruments.session import Session, write
from instruments.table import markdown, plain
from instruments.threads import threads
from instruments.training_problems import PROBLEMS, TrainingProblem

Settings = dict[str, Any]
Make = Callable[[nn.Module, TrainingProblem, Settings], torch.optim.Optimizer]
BASELINE = "adam"


@dataclass(frozen=True)
class Contender:
    """An optimizer and the box that its settings are drawn from.

    Args:
        order: 1 or 2.
        make: builds it.
        ranges: settings drawn log-uniformly, by name.
        whole: whether steps are on all rows.
        weights: that a model may have, at most.
    """

    order: int
    make: Make
    ranges: Mapping[str, tuple[float, float]]
    whole: bool = False
    weights: float = math.inf

    def settings(self, trials: int, problem: TrainingProblem) -> list[Settings]:
        names = list(self.ranges)
        points = qmc.Sobol(len(names) + 2, seed=0).random(trials)
        found: list[Settings] = []
        for point in points:
            chosen: Settings = {
                name: math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
                for name, u, (low, high) in zip(names, point, self.ranges.values(), strict=False)
            }
            chosen["batch"] = (
                len(problem.inputs) if self.whole else problem.batches[int(point[-2] * len(problem.batches))]
            )
            chosen["decay"] = bool(point[-1] >= 0.5) and not self.whole
            found.append(chosen)
        return found


def simple(name: str, **fixed: Any) -> Make:
    def make(model: nn.Module, problem: TrainingProblem, settings: Settings) -> torch.optim.Optimizer:
        own = {key: value for key, value in settings.items() if key not in ("batch", "decay")}
        return getattr(optim, name)(model.parameters(), **fixed, **own)

    return make


def kfac(model: nn.Module, problem: TrainingProblem, settings: Settings) -> torch.optim.Optimizer:
    own = {key: value for key, value in settings.items() if key not in ("batch", "decay")}
    return optim.kfac(model.parameters(), model=model, likelihood=problem.likelihood, **own)


RATES = {"lr": (1e-4, 1.0)}
CONTENDERS: Mapping[str, Contender] = {
    "sgd, momentum": Contender(1, simple("sgd", momentum=0.9, fused=True), {"lr": (1e-3, 10.0)}),
    "nesterov": Contender(1, simple("sgd", momentum=0.9, nesterov=True, fused=True), {"lr": (1e-3, 10.0)}),
    "rmsprop": Contender(1, simple("rmsprop"), {"lr": (1e-5, 0.1)}),
    "adam": Contender(1, simple("adam", fused=True), {"lr": (1e-5, 0.1)}),
    "kfac": Contender(2, kfac, {"lr": (1e-3, 1.0), "damping": (1e-3, 1.0)}),
    "shampoo": Contender(2, simple("shampoo"), {"lr": (1e-4, 1.0)}),
    "soap": Contender(2, simple("soap"), {"lr": (1e-5, 0.1)}),
    "lbfgs": Contender(2, simple("lbfgs"), {"lr": (0.03, 1.0)}, whole=True),
    "bfgs": Contender(2, simple("bfgs"), {"lr": (0.03, 1.0)}, whole=True, weights=2000),
    "newton": Contender(2, simple("newton"), {"lr": (0.1, 1.0)}, whole=True),
    "trust_region": Contender(2, simple("trust_region"), {"lr": (0.1, 10.0)}, whole=True),
}


@dataclass(frozen=True)
class Point:
    """What had been spent, and the loss over all rows."""

    seconds: float
    gradients: float
    loss: float


def run(
    problem: TrainingProblem, contender: Contender, settings: Settings, seed: int, target: float = -math.inf
) -> list[Point]:
    """The course of one training, until the time is up, the target is reached or the loss is not finite."""
    torch.manual_seed(seed)
    model = problem.network()
    optimizer = contender.make(model, problem, settings)
    rates = [group.get("lr") for group in optimizer.param_groups]
    rows, batch = len(problem.inputs), settings["batch"]
    course = [Point(0.0, 0.0, problem.value(model))]
    seconds = gradients = 0.0
    measured = 0.0
    order: list[torch.Tensor] = []
    draw = torch.Generator().manual_seed(seed)
    while seconds < problem.seconds:
        began = time.perf_counter()
        if not order:
            order = (
                [torch.arange(rows)]
                if contender.whole
                else list(torch.randperm(rows, generator=draw).split(batch))
            )
        chosen = order.pop()
        inputs, targets = (
            (problem.inputs, problem.targets)
            if contender.whole
            else (problem.inputs[chosen], problem.targets[chosen])
        )
        if settings["decay"]:
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, seconds / problem.seconds)))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        share = len(chosen) / rows
        if contender.order == 1 or contender.make is kfac:
            optimizer.zero_grad()
            problem.loss(model(inputs), targets).backward()
            optimizer.step()
            # K-FAC's extra backward pass for its factors, two thirds of a gradient, comes every tenth step.
            gradients += share * (1 + 2 / 30 if contender.order == 2 else 1)
        else:
            closure = Rows(model, problem.loss, inputs, targets)
            optimizer.step(closure)
            gradients += closure.gradients * share
        seconds += time.perf_counter() - began
        if seconds - measured >= problem.every:
            measured = seconds
            course.append(Point(seconds, gradients, problem.value(model)))
            if not math.isfinite(course[-1].loss) or course[-1].loss <= target:
                break
    return course


def reached(course: Sequence[Point], target: float) -> Point | None:
    """The first point at or below the target."""
    return next((point for point in course if point.loss <= target), None)


def last_loss(course: Sequence[Point]) -> float:
    return course[-1].loss if math.isfinite(course[-1].loss) else math.inf


def tuned(problem: TrainingProblem, contender: Contender, trials: int, target: float | None) -> Settings:
    """The best settings: by the time to the target, among those that reach it; else by the last loss."""
    best: tuple[tuple[float, float], Settings] | None = None
    for settings in contender.settings(trials, problem):
        course = run(problem, contender, settings, 1000, -math.inf if target is None else target)
        found = None if target is None else reached(course, target)
        score = (math.inf, last_loss(course)) if found is None else (found.seconds, 0.0)
        if best is None or score < best[0]:
            best = (score, settings)
    assert best is not None
    return best[1]


def measure(problem: TrainingProblem, names: Sequence[str], trials: int, seeds: int) -> dict[str, Any]:
    baseline = CONTENDERS[BASELINE]
    settings = {BASELINE: tuned(problem, baseline, trials, None)}
    courses = [run(problem, baseline, settings[BASELINE], seed) for seed in range(seeds)]
    losses = [
        min(point.loss for point in course if point.seconds <= 0.75 * problem.seconds) for course in courses
    ]
    target = max(losses)
    print(f"{problem.name}: target {target:.4g} (Adam, {settings[BASELINE]})", file=sys.stderr)
    weights = sum(p.numel() for p in problem.network().parameters())
    names = [name for name in names if weights <= CONTENDERS[name].weights]
    for name in names:
        settings[name] = tuned(problem, CONTENDERS[name], trials, target)
        print(f"  {name}: {settings[name]}", file=sys.stderr)
    results: dict[str, list[Point | None]] = {name: [] for name in names}
    finals: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(seeds):
        for name in names:
            course = run(problem, CONTENDERS[name], settings[name], seed, target)
            results[name].append(reached(course, target))
            finals[name].append(min(point.loss for point in course))
    return {"target": target, "settings": settings, "results": results, "finals": finals}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--only", default=",".join(PROBLEMS), help="problems, joined by commas")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="names, joined by commas")
    parser.add_argument("--trials", type=int, default=8, help="settings tried of each; default 8")
    parser.add_argument("--seeds", type=int, default=5, help="fresh seeds; default 5")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "time-to-target", help="file stem"
    )
    options = parser.parse_args(arguments)
    asked = [name.strip() for name in options.contenders.replace("sgd, momentum", "sgd; momentum").split(",")]
    names = [name.replace(";", ",") for name in asked]
    load_before = machine.load_average()
    header = ["problem", "optimizer", "seconds", "gradients", "reached", "settings"]
    rows: list[list[str]] = []
    content: dict[str, Any] = {}
    with threads(1):
        for problem_name in options.only.split(","):
            problem = PROBLEMS[problem_name]()
            found = measure(problem, names, options.trials, options.seeds)
            content[problem_name] = as_json(found)
            rows += table(problem_name, found)
    session = Session.now(
        ["descend", "torch"],
        trials=options.trials,
        seeds=options.seeds,
        threads=1,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    print(plain(header, rows), "", session.line(), sep="\n")
    text = "\n\n".join(
        [
            "# Time to a target",
            "Medians over seeds, quartiles in brackets, of seconds and of gradients over the whole data set until the training "
            "loss that tuned Adam has after three quarters of its time.",
            markdown(header, rows),
            f"- {session.line()}",
        ]
    )
    write(options.out, session, {"problems": content}, text)
    return 0


def table(problem: str, found: Mapping[str, Any]) -> list[list[str]]:
    def median(name: str) -> float:
        times = [math.inf if point is None else point.seconds for point in found["results"][name]]
        return float(np.median(times))

    rows = []
    for name in sorted(found["results"], key=median):
        points = [point for point in found["results"][name] if point is not None]
        count = f"{len(points)} of {len(found['results'][name])}"
        chosen = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in found["settings"][name].items()
        )
        if not points:
            least = Quartiles.of(found["finals"][name]).median
            rows.append([problem, name, "not reached", f"(least loss {least:.3g})", count, chosen])
            continue
        seconds = Quartiles.of([point.seconds for point in points])
        gradients = Quartiles.of([point.gradients for point in points])
        rows.append([problem, name, seconds.text(2), gradients.text(1), count, chosen])
    return rows


def as_json(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "target": found["target"],
        "settings": found["settings"],
        "least_loss": found["finals"],
        "to_target": {
            name: [None if point is None else [point.seconds, point.gradients] for point in points]
            for name, points in found["results"].items()
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
