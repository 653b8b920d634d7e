"""Optimizers compared on a saddle, on Beale's function and in a long valley.

Each optimizer uses its best learning rate from a grid on each surface. On the saddle (20 x² − y²)/2 + y⁴/4 the steep
direction limits the learning rate of gradient descent to 0.1, so that it moves slowly along the flat one.

Source: Staib, Reddi, Kale, Kumar and Sra, "Escaping saddle points with adaptive gradient methods", 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.intervals import Estimate, mean, ratio
from descend.gallery.paths import (
    Family,
    Function,
    beale,
    contours,
    first_within,
    follow,
    saddle,
    valley,
    with_lr,
)
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.optim import adagrad, adam, heavy_ball, nesterov, rmsprop, sgd
from descend.rng import generator

__all__ = ["Measurement", "Surface", "measure", "picture", "steep_saddle"]

OPTIMIZERS: dict[str, Family] = {
    "SGD": lambda p, t: sgd(p, lr=t),
    "heavy ball": lambda p, t: heavy_ball(p, lr=t, momentum=0.9),
    "Nesterov": lambda p, t: nesterov(p, lr=t, momentum=0.9),
    "Adagrad": lambda p, t: adagrad(p, lr=t, fused=True),
    "RMSprop": lambda p, t: rmsprop(p, lr=t, alpha=0.9),
    "Adam": lambda p, t: adam(p, lr=t, fused=True),
}

LEARNING_RATES = (0.001, 0.003, 0.01, 0.03, 0.09, 0.3, 0.9)


def steep_saddle(x: Tensor) -> Tensor:
    """Return the saddle with 20 times the curvature in x."""
    return saddle(x) + 9.5 * x[..., 0] ** 2


@dataclass(frozen=True)
class Surface:
    """A test function: start, minima, value that counts as convergence, plot window, and learning rates."""

    title: str
    function: Function
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    arrival: float
    x: tuple[float, float]
    y: tuple[float, float]
    lrs: tuple[float, ...] = LEARNING_RATES


SURFACES: dict[str, Surface] = {
    "saddle": Surface(
        "A saddle",
        steep_saddle,
        (0.5, 0.001),
        ((0, 1), (0, -1)),
        -0.24,
        (-0.8, 0.8),
        (-1.5, 1.5),
        LEARNING_RATES[:5],
    ),
    "beale": Surface("Beale's function", beale, (1.0, 1.4), ((3, 0.5),), 1e-3, (-0.5, 4.2), (-1.2, 1.9)),
    "valley": Surface("A long valley", valley, (8.0, 0.8), ((0, 0),), 1e-3, (-2, 9), (-1.2, 1.2)),
}


@dataclass(frozen=True)
class Measurement:
    """Results by surface and optimizer, and the steps to leave the saddle.

    Args:
        lrs: best learning rate.
        paths: path with that learning rate.
        arrivals: first step at convergence, −1 if none.
        escapes: by optimizer, the steps to leave the saddle from each random start.
    """

    lrs: dict[tuple[str, str], float]
    paths: dict[tuple[str, str], Tensor]
    arrivals: dict[tuple[str, str], int]
    escapes: dict[str, list[int]]


def measure(seed: int = 0, *, steps: int = 150, starts: int = 20) -> Measurement:
    """Run each optimizer on each surface, then leave the saddle from random starts near its ridge.

    Args:
        seed: seed of the random starts.
        steps: number of steps on each surface.
        starts: number of starts on the saddle.
    """
    lrs, paths, arrivals = {}, {}, {}
    for place, surface in SURFACES.items():
        for optimizer, make in OPTIMIZERS.items():
            key = (place, optimizer)
            lrs[key], paths[key], arrivals[key] = _best(surface, make, steps)
    samples = torch.rand(starts, 2, generator=generator(seed, "gallery/race"), dtype=torch.float64)
    side = (samples[:, 1] > 0.5).double() * 2 - 1
    begin = torch.stack([samples[:, 0] - 0.5, side * 10 ** (-4 + 2 * (2 * (samples[:, 1] % 0.5)))], 1)
    escapes = {}
    for optimizer, make in OPTIMIZERS.items():
        path = follow(steep_saddle, begin, with_lr(make, lrs["saddle", optimizer]), 4 * steps)
        escapes[optimizer] = first_within(-path[:, :, 1].abs(), -0.5).tolist()
    return Measurement(lrs, paths, arrivals, escapes)


def _best(surface: Surface, make: Family, steps: int) -> tuple[float, Tensor, int]:
    """Return the learning rate that converges first, or with the lowest final value if none converges."""
    result = []
    for lr in surface.lrs:
        path = follow(surface.function, torch.tensor(surface.start), with_lr(make, lr), steps)
        values = surface.function(path).nan_to_num(nan=torch.inf)
        arrived = int(first_within(values, surface.arrival))
        result.append(((arrived if arrived >= 0 else steps + 1, float(values[-1])), lr, path, arrived))
    _, lr, path, arrived = min(result, key=lambda one: one[0])
    return lr, path, arrived


def picture(result: Measurement) -> Picture:
    """Return panels of the three surfaces, and of the height on the saddle."""
    panels = [_surface(place, surface, result) for place, surface in SURFACES.items()]
    colors = {optimizer: f"s{at}" for at, optimizer in enumerate(OPTIMIZERS, 1)}
    gone = {optimizer: mean(steps) for optimizer, steps in result.escapes.items()}
    values = [surface.title for surface in SURFACES.values()]
    table = "; ".join(
        f"{title}: "
        + ", ".join(f"{optimizer} {_arrival(result.arrivals[place, optimizer])}" for optimizer in OPTIMIZERS)
        for place, title in zip(SURFACES, values, strict=True)
    )
    heights = Panel(
        "Height on the saddle",
        tuple(
            Line(
                numbers(range(len(result.paths["saddle", optimizer]))),
                numbers(steep_saddle(result.paths["saddle", optimizer])),
                optimizer,
                colors[optimizer],
            )
            for optimizer in OPTIMIZERS
        ),
        Axis("step", ends=(0, 100)),
        Axis("f", ends=(-0.27, 0.4)),
        shape="wide",
        note=f"Steps to convergence, each with the best learning rate of a grid. {table}.",
    )
    adaptive = ratio(a / b for a, b in zip(result.escapes["SGD"], result.escapes["Adam"], strict=True))
    every = all(step > 0 for steps in result.escapes.values() for step in steps)
    mean_steps = ", ".join(f"{optimizer} {gone[optimizer].value:.0f}" for optimizer in OPTIMIZERS)
    return Picture(
        name="race",
        title="Optimizers on a saddle and in valleys",
        claim="Adaptive methods can escape saddle points efficiently.",
        see="Press Play on the page. Near the saddle SGD moves slowly, because its gradient is small and the steep direction "
        "forbids a larger learning rate; RMSprop and Adam divide by the size of the gradient and leave at once. In the "
        "valley momentum keeps its speed.",
        number="steps of SGD to leave the saddle over those of Adam",
        value=adaptive,
        finding=f"Mean steps to leave the saddle from {len(result.escapes['SGD'])} starts near its ridge: {mean_steps}. "
        f"SGD takes {adaptive} times as many as Adam. (RMSprop, which has no bias correction, begins with a step of about "
        "three times its learning rate.)",
        supported=every and (adaptive.low or adaptive.value) > 1.0 and _less(gone["RMSprop"], gone["SGD"]),
        panels=(*panels, heights),
    )


def _less(one: Estimate, other: Estimate) -> bool:
    return (one.high or one.value) < (other.low or other.value)


def _arrival(step: int) -> str:
    return str(step) if step >= 0 else "not reached"


def _surface(place: str, surface: Surface, result: Measurement) -> Panel:
    squeeze: Function = torch.asinh if place == "saddle" else (lambda z: torch.log1p(3 * z))
    ground = contours(surface.function, surface.x, surface.y, squeeze=squeeze)
    lines = tuple(
        Line(
            numbers(result.paths[place, optimizer][:121, 0]),
            numbers(result.paths[place, optimizer][:121, 1]),
            optimizer,
            f"s{at}",
        )
        for at, optimizer in enumerate(OPTIMIZERS, 1)
    )
    goals = Points(
        tuple(float(x) for x, _ in surface.minima),
        tuple(float(y) for _, y in surface.minima),
        color="ink",
        size=8,
    )
    start = Points((surface.start[0],), (surface.start[1],), color="muted", size=9)
    return Panel(
        surface.title,
        (ground, *lines, start, goals),
        Axis("", ends=surface.x),
        Axis("", ends=surface.y),
        shape="tile",
        moving=True,
    )
