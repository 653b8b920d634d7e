"""The race: optimizers on a saddle, on Beale's function and in a long valley.

Each runs with the best of a grid of rates on each surface. On the saddle (20 x² − y²)/2 + y⁴/4 the steep direction
limits the rate of gradient descent to 0.1, so that it creeps away along the flat one.

Source: Staib, Reddi, Kale, Kumar and Sra, "Escaping saddle points with adaptive gradient methods", 2020; the
animation follows the one the lecture shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.paths import (
    Family,
    Function,
    beale,
    contours,
    first_within,
    follow,
    saddle,
    valley,
    with_rate,
)
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.gallery.spread import Estimate, mean, ratio
from descend.optim import adagrad, adam, heavy_ball, nesterov, rmsprop, sgd
from descend.rng import generator

__all__ = ["Measured", "Surface", "measure", "picture", "steep_saddle"]

RACERS: dict[str, Family] = {
    "SGD": lambda p, t: sgd(p, lr=t),
    "heavy ball": lambda p, t: heavy_ball(p, lr=t, momentum=0.9),
    "Nesterov": lambda p, t: nesterov(p, lr=t, momentum=0.9),
    "Adagrad": lambda p, t: adagrad(p, lr=t, fused=True),
    "RMSprop": lambda p, t: rmsprop(p, lr=t, alpha=0.9),
    "Adam": lambda p, t: adam(p, lr=t, fused=True),
}

RATES = (0.001, 0.003, 0.01, 0.03, 0.09, 0.3, 0.9)


def steep_saddle(x: Tensor) -> Tensor:
    """The saddle with 20 times the curvature across."""
    return saddle(x) + 9.5 * x[..., 0] ** 2


@dataclass(frozen=True)
class Surface:
    """Where a race is held: the function, start, minimum, what counts as arrival, and the window shown."""

    title: str
    function: Function
    start: tuple[float, float]
    minima: tuple[tuple[float, float], ...]
    arrival: float
    x: tuple[float, float]
    y: tuple[float, float]
    rates: tuple[float, ...] = RATES


SURFACES: dict[str, Surface] = {
    "saddle": Surface(
        "A saddle", steep_saddle, (0.5, 0.001), ((0, 1), (0, -1)), -0.24, (-0.8, 0.8), (-1.5, 1.5), RATES[:5]
    ),
    "beale": Surface("Beale's function", beale, (1.0, 1.4), ((3, 0.5),), 1e-3, (-0.5, 4.2), (-1.2, 1.9)),
    "valley": Surface("A long valley", valley, (8.0, 0.8), ((0, 0),), 1e-3, (-2, 9), (-1.2, 1.2)),
}


@dataclass(frozen=True)
class Measured:
    """By surface and racer: the best rate, its path and its arrival; by racer, steps to leave the saddle."""

    rates: dict[tuple[str, str], float]
    paths: dict[tuple[str, str], Tensor]
    arrivals: dict[tuple[str, str], int]
    escapes: dict[str, list[int]]


def measure(seed: int = 0, *, steps: int = 150, starts: int = 20) -> Measured:
    """Race on each surface, then leave the saddle from random starts near its ridge.

    Args:
        seed: the random starts.
        steps: of a race.
        starts: how many starts on the saddle.
    """
    rates, paths, arrivals = {}, {}, {}
    for place, surface in SURFACES.items():
        for racer, make in RACERS.items():
            key = (place, racer)
            rates[key], paths[key], arrivals[key] = _best(surface, make, steps)
    draws = torch.rand(starts, 2, generator=generator(seed, "gallery/race"), dtype=torch.float64)
    side = (draws[:, 1] > 0.5).double() * 2 - 1
    begin = torch.stack([draws[:, 0] - 0.5, side * 10 ** (-4 + 2 * (2 * (draws[:, 1] % 0.5)))], 1)
    escapes = {}
    for racer, make in RACERS.items():
        path = follow(steep_saddle, begin, with_rate(make, rates["saddle", racer]), 4 * steps)
        escapes[racer] = first_within(-path[:, :, 1].abs(), -0.5).tolist()
    return Measured(rates, paths, arrivals, escapes)


def _best(surface: Surface, make: Family, steps: int) -> tuple[float, Tensor, int]:
    """The rate with the earliest arrival, or the lowest end where none arrives."""
    found = []
    for rate in surface.rates:
        path = follow(surface.function, torch.tensor(surface.start), with_rate(make, rate), steps)
        values = surface.function(path).nan_to_num(nan=torch.inf)
        arrived = int(first_within(values, surface.arrival))
        found.append(((arrived if arrived >= 0 else steps + 1, float(values[-1])), rate, path, arrived))
    _, rate, path, arrived = min(found, key=lambda one: one[0])
    return rate, path, arrived


def picture(found: Measured) -> Picture:
    """The three races, and the steps to leave the saddle."""
    panels = [_race(place, surface, found) for place, surface in SURFACES.items()]
    colours = {racer: f"s{at}" for at, racer in enumerate(RACERS, 1)}
    gone = {racer: mean(steps) for racer, steps in found.escapes.items()}
    values = [surface.title for surface in SURFACES.values()]
    table = "; ".join(
        f"{title}: " + ", ".join(f"{racer} {_arrival(found.arrivals[place, racer])}" for racer in RACERS)
        for place, title in zip(SURFACES, values, strict=True)
    )
    heights = Panel(
        "Height on the saddle",
        tuple(
            Line(
                numbers(range(len(found.paths["saddle", racer]))),
                numbers(steep_saddle(found.paths["saddle", racer])),
                racer,
                colours[racer],
            )
            for racer in RACERS
        ),
        Axis("step", ends=(0, 100)),
        Axis("f", ends=(-0.27, 0.4)),
        shape="wide",
        note=f"Steps to arrive, each with the best of a grid of rates. {table}.",
    )
    adaptive = ratio(a / b for a, b in zip(found.escapes["SGD"], found.escapes["Adam"], strict=True))
    every = all(step > 0 for steps in found.escapes.values() for step in steps)
    said = ", ".join(f"{racer} {gone[racer].value:.0f}" for racer in RACERS)
    return Picture(
        name="race",
        title="A race on saddles and valleys",
        claim="Adaptive methods can escape saddle points efficiently; the lecture points at an animation that "
        "compares optimizers on such surfaces.",
        see="Press Play on the page. Near the saddle SGD creeps, since its gradient there is small and the steep walls "
        "forbid a larger rate; RMSprop and Adam divide by the size of the gradient and leave at once. In the valley "
        "momentum keeps its speed.",
        number="steps of SGD to leave the saddle for one of Adam",
        value=adaptive,
        finding=f"Mean steps to leave the saddle from {len(found.escapes['SGD'])} starts near its ridge: {said}. "
        f"SGD takes {adaptive} times as many as Adam. (RMSprop, which has no bias correction, begins with a step "
        "three rates long.)",
        supported=every and (adaptive.low or adaptive.value) > 1.0 and _less(gone["RMSprop"], gone["SGD"]),
        panels=(*panels, heights),
    )


def _less(one: Estimate, other: Estimate) -> bool:
    return (one.high or one.value) < (other.low or other.value)


def _arrival(step: int) -> str:
    return str(step) if step >= 0 else "not"


def _race(place: str, surface: Surface, found: Measured) -> Panel:
    squeeze: Function = torch.asinh if place == "saddle" else (lambda z: torch.log1p(3 * z))
    ground = contours(surface.function, surface.x, surface.y, squeeze=squeeze)
    lines = tuple(
        Line(
            numbers(found.paths[place, racer][:121, 0]),
            numbers(found.paths[place, racer][:121, 1]),
            racer,
            f"s{at}",
        )
        for at, racer in enumerate(RACERS, 1)
    )
    goals = Points(
        tuple(float(x) for x, _ in surface.minima),
        tuple(float(y) for _, y in surface.minima),
        colour="ink",
        size=8,
    )
    start = Points((surface.start[0],), (surface.start[1],), colour="muted", size=9)
    return Panel(
        surface.title,
        (ground, *lines, start, goals),
        Axis("", ends=surface.x),
        Axis("", ends=surface.y),
        shape="tile",
        moving=True,
    )
