"""Learning rate schedules: the factor of each schedule, and the loss that SGD reaches with it.

The classical conditions on the step sizes of SGD are Σ t_k = ∞ and Σ t_k² < ∞; with a constant learning rate the loss
ends at its noise floor. Measured on least squares with batches of 5 rows and the same base learning rate for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from descend.gallery.intervals import Estimate, format_number, ratio
from descend.gallery.picture import Axis, Bars, Line, Panel, Picture, numbers
from descend.optim import sgd
from descend.rng import generator
from descend.schedules import SCHEDULES, Schedule

__all__ = ["CHOICES", "Measurement", "measure", "picture"]

CHOICES: dict[str, dict[str, Any]] = {
    "constant": {},
    "inverse": {"beta": 0.3, "per": "epoch"},
    "exponential": {"beta": 0.08, "per": "epoch"},
    "staircase": {"factor": 0.2, "every": 15},
    "plateau": {"factor": 0.2, "patience": 3, "monitor": "objective"},
    "cosine": {"warmup": 3.0},
    "one_cycle": {},
}
"""Settings of each schedule."""


@dataclass(frozen=True)
class Measurement:
    """Factors and losses by schedule.

    Args:
        factors: factor of the learning rate in each epoch.
        excess: excess loss after each epoch, (epochs + 1, seeds).
    """

    factors: dict[str, list[float]]
    excess: dict[str, Tensor]


def measure(
    seed: int = 0, *, seeds: int = 8, epochs: int = 60, rows: int = 200, columns: int = 10, batch: int = 5
) -> Measurement:
    """Run SGD with each schedule on problems that differ in their data and order of rows.

    The problems of all seeds form one batched problem, because the optimizer works elementwise; the schedule ``plateau``
    monitors their mean loss.

    Args:
        seed: seed of the data.
        seeds: number of problems.
        epochs: passes over the rows.
        rows: number of rows m.
        columns: number of columns n.
        batch: rows in a step.
    """
    rng = generator(seed, "gallery/schedules")
    x = torch.randn(seeds, rows, columns, generator=rng)
    y = (x @ torch.randn(seeds, columns, 1, generator=rng)).squeeze(2) + torch.randn(
        seeds, rows, generator=rng
    )
    best = torch.linalg.lstsq(x, y.unsqueeze(2)).solution.squeeze(2)
    least = _losses(best, x, y)
    factors, excess = {}, {}
    for name, settings in CHOICES.items():
        steps = rows // batch
        schedule: Schedule = SCHEDULES[name](steps, epochs * steps, **settings)
        factors[name], losses = _run(schedule, x, y, seed, epochs, batch)
        excess[name] = losses - least
    return Measurement(factors, excess)


def _losses(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ((x @ w.unsqueeze(2)).squeeze(2) - y).square().mean(1)


def _run(
    schedule: Schedule, x: Tensor, y: Tensor, seed: int, epochs: int, batch: int, lr: float = 0.1
) -> tuple[list[float], Tensor]:
    seeds, rows, columns = x.shape
    w = torch.zeros(seeds, columns, requires_grad=True)
    optimizer = sgd([w], lr=lr)
    losses, factors = [_losses(w.detach(), x, y)], []
    steps = rows // batch
    pick = torch.arange(seeds).unsqueeze(1)
    for epoch in range(epochs):
        order = torch.rand(seeds, rows, generator=generator(seed, "gallery/schedules/order", epoch)).argsort(
            1
        )
        factors.append(schedule.factor(epoch * steps))
        for step in range(steps):
            rows_now = order[:, step * batch : (step + 1) * batch]
            a, b = x[pick, rows_now], y[pick, rows_now]
            off = (a @ w.detach().unsqueeze(2)).squeeze(2) - b
            w.grad = (off.unsqueeze(1) @ a).squeeze(1) * (2 / batch)
            optimizer.param_groups[0]["lr"] = lr * schedule.factor(epoch * steps + step)
            optimizer.step()
        losses.append(_losses(w.detach(), x, y))
        schedule.observe(float(losses[-1].mean()))
    return factors, torch.stack(losses)


def picture(result: Measurement) -> Picture:
    """Return panels of the learning rates, the losses, and the final loss."""
    names = list(result.factors)
    colors = {name: f"s{at}" for at, name in enumerate(names, 1)} | {"constant": "s8", "one_cycle": "s1"}
    epochs = range(1, len(result.factors[names[0]]) + 1)
    ends = {name: _over_constant(result, name) for name in names}
    panels = (
        Panel(
            "Learning rate over its base value",
            tuple(
                Line(numbers(epochs), numbers(result.factors[name], above=1e-6), _name(name), colors[name])
                for name in names
            ),
            Axis("epoch"),
            Axis("factor", log=True, ends=(8e-4, 1.5)),
        ),
        Panel(
            "Loss above the minimum",
            tuple(
                Line(
                    numbers(range(len(epochs) + 1)),
                    numbers(result.excess[name].log().mean(1).exp(), above=0.0),
                    _name(name),
                    colors[name],
                )
                for name in names
            ),
            Axis("epoch"),
            Axis("F − min F (geometric mean)", log=True),
        ),
        Panel(
            "Final excess loss over that of the constant learning rate",
            (
                Bars(
                    tuple(_name(name) for name in names),
                    numbers(ends[name].value for name in names),
                    low=numbers(ends[name].low or ends[name].value for name in names),
                    high=numbers(ends[name].high or ends[name].value for name in names),
                ),
            ),
            Axis(""),
            Axis("ratio", log=True),
            shape="wide",
            note="Lower is better. Lines are 95 % intervals over problems.",
        ),
    )
    stairs = _inverse(ends["staircase"])
    lowered = [name for name in names if name != "constant"]
    worst = max((ends[name] for name in lowered), key=lambda result: result.high or result.value)
    return Picture(
        name="schedules",
        title="Learning rate schedules",
        claim="SGD with a constant learning rate does not converge. In practice the learning rate is lowered: as 1/k, "
        "exponentially, by a staircase, or when the loss stagnates.",
        see="All schedules descend equally at first. With the constant learning rate the loss stays at its "
        "noise floor; each drop "
        "of the staircase lowers it at once.",
        number="final loss with the constant learning rate over that with the staircase",
        value=stairs,
        finding=f"After {len(epochs)} epochs the excess loss of the constant learning rate is {stairs} times "
        "that of the staircase. "
        "Its ratio to each schedule: "
        f"{', '.join(f'{_name(name)} {format_number(_inverse(ends[name]).value)}' for name in lowered)}.",
        supported=(worst.high or worst.value) < 1.0,
        panels=panels,
    )


def _over_constant(result: Measurement, name: str) -> Estimate:
    last = {each: values[-1].clamp(min=1e-12) for each, values in result.excess.items()}
    return ratio((last[name] / last["constant"]).tolist())


def _inverse(estimate: Estimate) -> Estimate:
    if estimate.low is None or estimate.high is None:
        return Estimate(1 / estimate.value)
    return Estimate(1 / estimate.value, 1 / estimate.high, 1 / estimate.low)


def _name(name: str) -> str:
    return {"one_cycle": "one cycle", "cosine": "warm-up, cosine", "inverse": "1/k"}.get(name, name)
