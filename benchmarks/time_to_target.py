"""Seconds and gradients that optimizers need to reach the loss of a tuned baseline.

    python benchmarks/time_to_target.py [--only mlp] [--trials 8] [--seeds 5] [--out benchmarks/results]

Every optimizer has the same number of trials, quasi-random (Sobol) points of a box of settings: learning rate (the range
spans four decades for all first-order methods), batch size, and constant or cosine schedule. The baseline, Adam, is
tuned first, by its last loss. Its loss after three quarters of the time, the worst over new seeds, is the target. The
others are tuned by their time to the target, or by their last loss if they do not reach it. The best settings then run
with the same new seeds, optimizers interleaved. Evaluations of the loss over all rows are not timed. One thread, float32;
seconds are those of the processor, which other processes on the machine prolong less than those of a clock.

The unit of cost is the gradient of the loss over all rows: an epoch of SGD costs one gradient, an evaluation of the loss
a third, and a product with a curvature matrix two.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import qmc
from torch import nn

from descend import optim
from descend.optim import Rows, evaluation_weights
from instruments import machine
from instruments.quartiles import Quartiles
from instruments.results import add_out_option, report_table
from instruments.session import Session
from instruments.threads import threads
from instruments.training_problems import PROBLEMS, TrainingProblem

Settings = dict[str, Any]
Make = Callable[[nn.Module, TrainingProblem, Settings], torch.optim.Optimizer]
BASELINE = "adam"


@dataclass(frozen=True)
class Contender:
    """An optimizer and the box of its settings.

    Args:
        order: order of the method, 1 or 2.
        make: builds the optimizer.
        ranges: bounds of log-uniformly sampled settings, by name.
        full_batch: whether steps use all rows.
        max_weights: largest supported number of weights of a model.
    """

    order: int
    make: Make
    ranges: Mapping[str, tuple[float, float]]
    full_batch: bool = False
    max_weights: float = math.inf

    def settings(self, trials: int, problem: TrainingProblem) -> list[Settings]:
        """Return quasi-random settings."""
        names = list(self.ranges)
        points = qmc.Sobol(len(names) + 2, seed=0).random(trials)
        result: list[Settings] = []
        for point in points:
            settings: Settings = {
                name: math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
                for name, u, (low, high) in zip(names, point, self.ranges.values(), strict=False)
            }
            settings["batch"] = (
                len(problem.inputs)
                if self.full_batch
                else problem.batches[int(point[-2] * len(problem.batches))]
            )
            settings["decay"] = bool(point[-1] >= 0.5) and not self.full_batch
            result.append(settings)
        return result


def by_name(name: str, **fixed: Any) -> Make:
    """Return a function that builds an optimizer of :mod:`descend.optim`."""

    def make(model: nn.Module, problem: TrainingProblem, settings: Settings) -> torch.optim.Optimizer:
        own = {key: value for key, value in settings.items() if key not in ("batch", "decay")}
        return getattr(optim, name)(model.parameters(), **fixed, **own)

    return make


def kfac(model: nn.Module, problem: TrainingProblem, settings: Settings) -> torch.optim.Optimizer:
    """Build K-FAC for a model and the likelihood of a problem."""
    own = {key: value for key, value in settings.items() if key not in ("batch", "decay")}
    return optim.kfac(model.parameters(), model=model, likelihood=problem.likelihood, **own)


def muon(model: nn.Module, problem: TrainingProblem, settings: Settings) -> torch.optim.Optimizer:
    """Build Muon, with AdamW for the vectors and the output layer."""
    own = {key: value for key, value in settings.items() if key not in ("batch", "decay")}
    return optim.muon(
        model.parameters(), model=model, adjust_lr_fn="match_rms_adamw", weight_decay=0.0, **own
    )


def sam(model: nn.Module, problem: TrainingProblem, settings: Settings) -> torch.optim.Optimizer:
    """Build SAM around Adam; the distance is a setting."""
    return optim.sam(optim.adam(model.parameters(), lr=settings["lr"], fused=True), rho=settings["rho"])


def lookahead(model: nn.Module, problem: TrainingProblem, settings: Settings) -> torch.optim.Optimizer:
    """Build Lookahead around Adam."""
    return optim.lookahead(optim.adam(model.parameters(), lr=settings["lr"], fused=True))


CONTENDERS: Mapping[str, Contender] = {
    "momentum": Contender(1, by_name("sgd", momentum=0.9, fused=True), {"lr": (1e-3, 10.0)}),
    "nesterov": Contender(1, by_name("sgd", momentum=0.9, nesterov=True, fused=True), {"lr": (1e-3, 10.0)}),
    "rmsprop": Contender(1, by_name("rmsprop"), {"lr": (1e-5, 0.1)}),
    "adam": Contender(1, by_name("adam", fused=True), {"lr": (1e-5, 0.1)}),
    "nadam": Contender(1, by_name("nadam", foreach=True), {"lr": (1e-5, 0.1)}),
    "radam": Contender(1, by_name("radam", foreach=True), {"lr": (1e-5, 0.1)}),
    "adafactor": Contender(1, by_name("adafactor", foreach=True), {"lr": (1e-4, 1.0)}),
    "lion": Contender(1, by_name("lion"), {"lr": (1e-6, 0.01)}),
    "muon": Contender(1, muon, {"lr": (1e-5, 0.1)}),
    "schedule_free_adamw": Contender(
        1, by_name("schedule_free_adamw", warmup_steps=100), {"lr": (1e-4, 1.0)}
    ),
    "prodigy": Contender(1, by_name("prodigy"), {"d_coef": (0.1, 10.0)}),
    "sam": Contender(1, sam, {"lr": (1e-5, 0.1), "rho": (1e-3, 0.2)}),
    "lookahead": Contender(1, lookahead, {"lr": (1e-5, 0.1)}),
    "kfac": Contender(2, kfac, {"lr": (1e-3, 1.0), "damping": (1e-3, 1.0)}),
    "shampoo": Contender(2, by_name("shampoo"), {"lr": (1e-4, 1.0)}),
    "soap": Contender(2, by_name("soap"), {"lr": (1e-5, 0.1)}),
    "lbfgs": Contender(2, by_name("lbfgs"), {"lr": (0.03, 1.0)}, full_batch=True),
    "bfgs": Contender(2, by_name("bfgs"), {"lr": (0.03, 1.0)}, full_batch=True, max_weights=2000),
    "newton": Contender(2, by_name("newton"), {"lr": (0.1, 1.0)}, full_batch=True),
    "trust_region": Contender(2, by_name("trust_region"), {"lr": (0.1, 10.0)}, full_batch=True),
}


@dataclass(frozen=True)
class Point:
    """Cost so far, and the loss over all rows."""

    seconds: float
    gradients: float
    loss: float


def run(
    problem: TrainingProblem, contender: Contender, settings: Settings, seed: int, target: float = -math.inf
) -> list[Point]:
    """Return the course of one training up to the time limit, the target or a loss that is not finite."""
    torch.manual_seed(seed)
    model = problem.network()
    optimizer = contender.make(model, problem, settings)
    learning_rates = [group.get("lr") for group in optimizer.param_groups]
    rows, batch = len(problem.inputs), settings["batch"]
    course = [Point(0.0, 0.0, problem.value(model))]
    seconds = gradients = 0.0
    measured = 0.0
    order: list[torch.Tensor] = []
    generator = torch.Generator().manual_seed(seed)
    while seconds < problem.seconds:
        start = time.process_time()
        if not order:
            order = (
                [torch.arange(rows)]
                if contender.full_batch
                else list(torch.randperm(rows, generator=generator).split(batch))
            )
        batch_rows = order.pop()
        inputs, targets = (
            (problem.inputs, problem.targets)
            if contender.full_batch
            else (problem.inputs[batch_rows], problem.targets[batch_rows])
        )
        if settings["decay"]:
            factor = 0.5 * (1 + math.cos(math.pi * min(1.0, seconds / problem.seconds)))
            for group, learning_rate in zip(optimizer.param_groups, learning_rates, strict=True):
                group["lr"] = learning_rate * factor
        fraction = len(batch_rows) / rows
        if contender.order == 1 or contender.make is kfac:

            def closure() -> torch.Tensor:
                optimizer.zero_grad()
                loss = problem.loss(model(inputs), targets)  # noqa: B023 - called within this step
                loss.backward()
                return loss

            if contender.make is sam:
                optimizer.step(closure)
                gradients += fraction
            else:
                closure()
                optimizer.step()
            # Every tenth step, K-FAC has an additional backward pass for its factors, two thirds of a gradient.
            gradients += fraction * (1 + 2 / 30 if contender.order == 2 else 1)
        else:
            closure = Rows(model, problem.loss, inputs, targets)
            optimizer.step(closure)
            gradients += closure.gradients * fraction
        seconds += time.process_time() - start
        if seconds - measured >= problem.every:
            measured = seconds
            with evaluation_weights(optimizer):
                course.append(Point(seconds, gradients, problem.value(model)))
            if not math.isfinite(course[-1].loss) or course[-1].loss <= target:
                break
    return course


def reached(course: Sequence[Point], target: float) -> Point | None:
    """Return the first point at or below the target."""
    return next((point for point in course if point.loss <= target), None)


def last_loss(course: Sequence[Point]) -> float:
    """Return the last loss; infinite if it is not finite."""
    return course[-1].loss if math.isfinite(course[-1].loss) else math.inf


def tuned(problem: TrainingProblem, contender: Contender, trials: int, target: float | None) -> Settings:
    """Return the settings with the shortest time to the target, or with the lowest last loss if none reaches it."""
    best: tuple[tuple[float, float], Settings] | None = None
    for settings in contender.settings(trials, problem):
        course = run(problem, contender, settings, 1000, -math.inf if target is None else target)
        point = None if target is None else reached(course, target)
        score = (math.inf, last_loss(course)) if point is None else (point.seconds, 0.0)
        if best is None or score < best[0]:
            best = (score, settings)
    assert best is not None
    return best[1]


def measure(problem: TrainingProblem, names: Sequence[str], trials: int, seeds: int) -> dict[str, Any]:
    """Tune all contenders, then run the best settings with new seeds, interleaved."""
    baseline = CONTENDERS[BASELINE]
    settings = {BASELINE: tuned(problem, baseline, trials, None)}
    courses = [run(problem, baseline, settings[BASELINE], seed) for seed in range(seeds)]
    losses = [
        min(point.loss for point in course if point.seconds <= 0.75 * problem.seconds) for course in courses
    ]
    target = max(losses)
    print(f"{problem.name}: target {target:.4g} (Adam, {settings[BASELINE]})", file=sys.stderr)
    weights = sum(p.numel() for p in problem.network().parameters())
    names = [name for name in names if weights <= CONTENDERS[name].max_weights]
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
    parser.add_argument("--only", default=",".join(PROBLEMS), help="comma-separated problems; default all")
    parser.add_argument(
        "--contenders", default=",".join(CONTENDERS), help="comma-separated optimizers; default all"
    )
    parser.add_argument("--trials", type=int, default=8, help="settings tried per optimizer; default 8")
    parser.add_argument("--seeds", type=int, default=5, help="new seeds; default 5")
    add_out_option(parser)
    options = parser.parse_args(arguments)
    names = options.contenders.split(",")
    load_before = machine.load_average()
    rows: list[list[str]] = []
    content: dict[str, Any] = {}
    with threads(1):
        for problem_name in options.only.split(","):
            problem = PROBLEMS[problem_name]()
            result = measure(problem, names, options.trials, options.seeds)
            content[problem_name] = as_json(result)
            rows += table(problem_name, result)
    session = Session.now(
        ["descend", "torch"],
        trials=options.trials,
        seeds=options.seeds,
        threads=1,
        load_before=load_before,
        load_after=machine.load_average(),
    )
    report_table(
        options.out,
        "time_to_target",
        session,
        {"problems": content},
        title="Time to a target loss",
        explanation=(
            "Seconds, and gradients over all rows, until the training loss that tuned Adam reaches after three quarters "
            "of its time. Medians over seeds, quartiles in brackets."
        ),
        header=["problem", "optimizer", "seconds", "gradients", "reached", "settings"],
        rows=rows,
    )
    return 0


def table(problem: str, result: Mapping[str, Any]) -> list[list[str]]:
    """Return the rows of a problem, fastest optimizer first."""

    def median(name: str) -> float:
        times = [math.inf if point is None else point.seconds for point in result["results"][name]]
        return float(np.median(times))

    rows = []
    for name in sorted(result["results"], key=median):
        points = [point for point in result["results"][name] if point is not None]
        count = f"{len(points)} of {len(result['results'][name])}"
        chosen = ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in result["settings"][name].items()
        )
        if not points:
            lowest = Quartiles.of(result["finals"][name]).median
            rows.append([problem, name, "not reached", f"(lowest loss {lowest:.3g})", count, chosen])
            continue
        seconds = Quartiles.of([point.seconds for point in points])
        gradients = Quartiles.of([point.gradients for point in points])
        rows.append([problem, name, seconds.text(2), gradients.text(1), count, chosen])
    return rows


def as_json(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the measurements of a problem in a form that JSON supports."""
    return {
        "target": result["target"],
        "settings": result["settings"],
        "least_loss": result["finals"],
        "to_target": {
            name: [None if point is None else [point.seconds, point.gradients] for point in points]
            for name, points in result["results"].items()
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
