"""Step sizes: what each schedule makes of the rate, and how far a noisy descent gets with it.

Theory asks of SGD's steps Σ t_k = ∞ and Σ t_k² < ∞: a constant rate ends at the size of its noise. Measured on
least squares with one gradient for a batch of 5 rows; the base rate is the same for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from descend.gallery.picture import Axis, Bars, Line, Panel, Picture, numbers
from descend.gallery.spread import Estimate, ratio, words
from descend.optim import sgd
from descend.rng import generator
from descend.schedules import SCHEDULES, Schedule

__all__ = ["CHOICES", "Measured", "measure", "picture"]

CHOICES: dict[str, dict[str, Any]] = {
    "constant": {},
    "inverse": {"beta": 0.3, "per": "epoch"},
    "exponential": {"beta": 0.08, "per": "epoch"},
    "staircase": {"factor": 0.2, "every": 15},
    "plateau": {"factor": 0.2, "patience": 3, "monitor": "objective"},
    "cosine": {"warmup": 3.0},
    "one_cycle": {},
}
"""The settings shown."""


@dataclass(frozen=True)
class Measured:
    """By schedule: the factor of the rate in each epoch, and excess losses (epochs + 1, seeds)."""

    factors: dict[str, list[float]]
    excess: dict[str, Tensor]


def measure(
    seed: int = 0, *, seeds: int = 8, epochs: int = 60, rows: int = 200, columns: int = 10, batch: int = 5
) -> Measured:
    """Descend with each schedule on problems that differ in their data and order of rows.

    The problems of all seeds are one batched problem, as the optimizer works element by element; the schedule
    ``plateau`` watches their mean loss.

    Args:
        seed: of the data.
        seeds: how many problems.
        epochs: passes over the rows.
        rows: m.
        columns: n.
        batch: rows in a step.
    """
    draws = generator(seed, "gallery/schedules")
    x = torch.randn(seeds, rows, columns, generator=draws)
    y = (x @ torch.randn(seeds, columns, 1, generator=draws)).squeeze(2) + torch.randn(
        seeds, rows, generator=draws
    )
    best = torch.linalg.lstsq(x, y.unsqueeze(2)).solution.squeeze(2)
    least = _losses(best, x, y)
    factors, excess = {}, {}
    for name, settings in CHOICES.items():
        steps = rows // batch
        schedule: Schedule = SCHEDULES[name](steps, epochs * steps, **settings)
        factors[name], losses = _run(schedule, x, y, seed, epochs, batch)
        excess[name] = losses - least
    return Measured(factors, excess)


def _losses(w: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return ((x @ w.unsqueeze(2)).squeeze(2) - y).square().mean(1)


def _run(
    schedule: Schedule, x: Tensor, y: Tensor, seed: int, epochs: int, batch: int, rate: float = 0.1
) -> tuple[list[float], Tensor]:
    seeds, rows, columns = x.shape
    w = torch.zeros(seeds, columns, requires_grad=True)
    optimizer = sgd([w], lr=rate)
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
            optimizer.param_groups[0]["lr"] = rate * schedule.factor(epoch * steps + step)
            optimizer.step()
        losses.append(_losses(w.detach(), x, y))
        schedule.observe(float(losses[-1].mean()))
    return factors, torch.stack(losses)


def picture(found: Measured) -> Picture:
    """The rates, the losses, and the loss in the end."""
    names = list(found.factors)
    colours = {name: f"s{at}" for at, name in enumerate(names, 1)} | {"constant": "s8", "one_cycle": "s1"}
    epochs = range(1, len(found.factors[names[0]]) + 1)
    ends = {name: _over_constant(found, name) for name in names}
    panels = (
        Panel(
            "The rate, as a factor of its base",
            tuple(
                Line(numbers(epochs), numbers(found.factors[name], above=1e-6), _name(name), colours[name])
                for name in names
            ),
            Axis("epoch"),
            Axis("factor", log=True, ends=(8e-4, 1.5)),
        ),
        Panel(
            "Loss above the least possible",
            tuple(
                Line(
                    numbers(range(len(epochs) + 1)),
                    numbers(found.excess[name].log().mean(1).exp(), above=0.0),
                    _name(name),
                    colours[name],
                )
                for name in names
            ),
            Axis("epoch"),
            Axis("F − min F (geometric mean)", log=True),
        ),
        Panel(
            "In the end, as a share of the constant rate's",
            (
                Bars(
                    tuple(_name(name) for name in names),
                    numbers(ends[name].value for name in names),
                    low=numbers(ends[name].low or ends[name].value for name in names),
                    high=numbers(ends[name].high or ends[name].value for name in names),
                ),
            ),
            Axis(""),
            Axis("excess loss over the constant rate's", log=True),
            shape="wide",
            note="Lower is better. Lines are 95 % intervals over problems.",
        ),
    )
    stairs = _inverse(ends["staircase"])
    lowered = [name for name in names if name != "constant"]
    worst = max((ends[name] for name in lowered), key=lambda found: found.high or found.value)
    return Picture(
        name="schedules",
        title="A rate that falls",
        claim="A constant rate does not converge for SGD; practice lowers it: as 1/k, exponentially, by a staircase, or "
        "when the loss stagnates.",
        see="All descend alike at first. With the constant rate the loss stays at the height of its noise; each drop of the "
        "staircase takes it lower at once.",
        number="end loss with the constant rate over that with the staircase",
        value=stairs,
        finding=f"After {len(epochs)} epochs the constant rate's excess loss is {stairs} times the staircase's. "
        f"In the same unit: {', '.join(f'{_name(name)} {words(_inverse(ends[name]).value)}' for name in lowered)}.",
        supported=(worst.high or worst.value) < 1.0,
        panels=panels,
    )


def _over_constant(found: Measured, name: str) -> Estimate:
    last = {each: values[-1].clamp(min=1e-12) for each, values in found.excess.items()}
    return ratio((last[name] / last["constant"]).tolist())


def _inverse(found: Estimate) -> Estimate:
    if found.low is None or found.high is None:
        return Estimate(1 / found.value)
    return Estimate(1 / found.value, 1 / found.high, 1 / found.low)


def _name(name: str) -> str:
    return {"one_cycle": "one cycle", "cosine": "warm-up, cosine", "inverse": "1/k"}.get(name, name)
