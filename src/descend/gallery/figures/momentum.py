"""Why momentum: the zig-zag of gradient descent on an elongated bowl, and how a heavy ball smooths it.

On f(x) = ½(x₁² + κ x₂²) with the best constant settings each step multiplies the error, in the end, by

============== ======================================= ==============================
method         settings                                factor
============== ======================================= ==============================
descent        α = 2/(L + μ)                           (κ − 1)/(κ + 1)
heavy ball     α = 4/(√L + √μ)², β = ((√κ − 1)/(√κ + 1))²  (√κ − 1)/(√κ + 1)
Nesterov       α = 4/(3L + μ), β = (√(3κ+1) − 2)/(√(3κ+1) + 2)   1 − 2/√(3κ + 1)
============== ======================================= ==============================

Source: Lessard, Recht and Packard, "Analysis and design of optimization algorithms via integral quadratic
constraints", 2016, table 1; Polyak 1964.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.paths import Function, Maker, contours, first_within, follow
from descend.gallery.picture import Axis, Line, Numbers, Panel, Picture, Points, numbers
from descend.gallery.spread import mean, ratio
from descend.optim import heavy_ball, nesterov, sgd
from descend.rng import generator

__all__ = ["Measured", "measure", "methods", "picture"]

TARGET = 1e-6
"""How small the function must become, as a share of its first value."""


@dataclass(frozen=True)
class Measured:
    """Of each method and start: the path, the objective, steps to the target, and how much the path turns.

    Args:
        condition: κ.
        paths: (steps + 1, starts, 2).
        values: (steps + 1, starts), f.
        steps: (starts,), the step at which f is ``TARGET`` of its first value; −1 for never.
        turns: (starts,), the share of steps until then that go back against the one before.
        lengths: (starts,), the path's length until then, as a multiple of the straight way.
    """

    condition: float
    paths: dict[str, Tensor]
    values: dict[str, Tensor]
    steps: dict[str, Tensor]
    turns: dict[str, Tensor]
    lengths: dict[str, Tensor]


def methods(condition: float) -> dict[str, tuple[Maker, float]]:
    """Each method with its best settings for L = κ, μ = 1, and the factor that theory gives it."""
    k, root, third = condition, math.sqrt(condition), math.sqrt(3 * condition + 1)
    ball = ((root - 1) / (root + 1)) ** 2
    ahead = (third - 2) / (third + 2)
    return {
        "gradient descent": (lambda p: sgd(p, lr=2 / (k + 1)), (k - 1) / (k + 1)),
        "heavy ball": (
            lambda p: heavy_ball(p, lr=4 / (root + 1) ** 2, momentum=ball),
            (root - 1) / (root + 1),
        ),
        "heavy ball, ¾ of the rate": (
            lambda p: heavy_ball(p, lr=3 / (root + 1) ** 2, momentum=ball),
            (root - 1) / (root + 1),
        ),
        "Nesterov": (
            lambda p: nesterov(p, lr=4 / (3 * k + 1), momentum=ahead),
            1 - 2 / third,
        ),
    }


def measure(seed: int = 0, *, condition: float = 50.0, starts: int = 20, steps: int = 500) -> Measured:
    """Follow each method from random starts, the same for all.

    Args:
        seed: the starts.
        condition: κ.
        starts: how many.
        steps: of each method.
    """
    directions = torch.rand(starts, generator=generator(seed, "gallery/momentum")).double()
    # The coordinates are of one size after scaling by the curvature, or there would be nothing to smooth.
    angle = 0.25 * math.pi + 0.6 * (directions - 0.5)
    begin = torch.stack([10 * angle.cos(), 10 * angle.sin() / math.sqrt(condition)], 1)

    bowl = _bowl(condition)
    paths = {name: follow(bowl, begin, make, steps) for name, (make, _) in methods(condition).items()}
    values = {name: bowl(path) for name, path in paths.items()}
    reached = {name: first_within(value / value[0], TARGET) for name, value in values.items()}
    shapes = {name: _shape(path, reached[name]) for name, path in paths.items()}
    turns = {name: shape[0] for name, shape in shapes.items()}
    lengths = {name: shape[1] for name, shape in shapes.items()}
    return Measured(condition, paths, values, reached, turns, lengths)


def _bowl(condition: float) -> Function:
    return lambda x: 0.5 * (x[..., 0] ** 2 + condition * x[..., 1] ** 2)


def _shape(path: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """The share of steps that turn back, and the length over the straight way, up to each path's end."""
    turns, lengths = [], []
    for at, end in enumerate(ends.tolist()):
        moves = path[: end + 1, at].diff(dim=0) if end >= 0 else path[:, at].diff(dim=0)
        turns.append(((moves[1:] * moves[:-1]).sum(1) < 0).double().mean())
        lengths.append(moves.norm(dim=1).sum() / path[0, at].norm())
    return torch.stack(turns), torch.stack(lengths)


_COLOURS = {
    "gradient descent": "s2",
    "heavy ball": "s4",
    "heavy ball, ¾ of the rate": "s1",
    "Nesterov": "s3",
}


def picture(found: Measured) -> Picture:
    """The paths from one start, and the objective step by step."""
    ground = contours(_bowl(found.condition), (-2, 9), (-3.2, 3.2), squeeze=torch.sqrt)
    paths = tuple(
        Panel(
            name[:1].upper() + name[1:],
            (
                ground,
                Line(
                    numbers(path[:31, 0, 0]),
                    numbers(path[:31, 0, 1]),
                    colour=_COLOURS[name],
                    dots=True,
                    width=1.6,
                ),
                Points((0.0,), (0.0,), colour="ink", size=8),
            ),
            Axis("x₁", ends=(-2, 9)),
            Axis("x₂", ends=(-3.2, 3.2)),
            note=f"The first 30 steps. {found.turns[name].mean():.0%} of the steps turn back, "
            f"and the way is {found.lengths[name].mean():.1f} times the straight one.",
        )
        for name, path in found.paths.items()
    )
    counts = {name: mean(steps.tolist()) for name, steps in found.steps.items()}
    gain = ratio(
        slow / fast
        for slow, fast in zip(
            found.steps["gradient descent"].tolist(), found.steps["heavy ball"].tolist(), strict=True
        )
    )
    smooth = ratio((found.lengths["gradient descent"] / found.lengths["heavy ball, ¾ of the rate"]).tolist())
    every = all(bool((steps > 0).all()) for steps in found.steps.values())
    said = ", ".join(f"{name} {round(count.value)}" for name, count in counts.items())
    return Picture(
        name="momentum",
        title="Momentum smooths the zig-zag",
        claim="Gradient descent zig-zags on an elongated function and is slow; history (heavy ball, Nesterov) "
        "smooths the path, at the cost of a gradient step.",
        see="With its best rate, gradient descent jumps from one wall of the valley to the other at every step. "
        "The heavy ball is fastest with settings at which it jumps as well; with three quarters of that rate it is "
        "almost as fast and its path is smooth. The curves below run parallel to the dotted lines of theory.",
        number="steps of gradient descent for one of heavy ball",
        value=gain,
        finding=f"Condition number {found.condition:g}; steps until f is a millionth of its first value: {said}. "
        f"Gradient descent takes {gain} times as many steps as the heavy ball. At its fastest the heavy ball "
        f"zig-zags as much; with ¾ of the rate its way is {smooth} times shorter than gradient descent's.",
        supported=every and (gain.low or gain.value) > 1.0 and (smooth.low or smooth.value) > 1.0,
        panels=(*paths, _speed(found)),
    )


def _speed(found: Measured) -> Panel:
    lines = []
    steps = numbers(range(251))
    for name, value in found.values.items():
        shown = (value / value[0]).log10().mean(1)[:251]
        factor = math.log10(methods(found.condition)[name][1])
        theory = torch.arange(251) * 2 * factor
        colour = _COLOURS[name]
        lines.append(Line(steps, _powers(shown), name, colour))
        if "¾" not in name:
            lines.append(Line(steps, _powers(theory), "", colour, dash="dot", width=1.3))
    return Panel(
        "Objective as a share of the first, the mean over all starts",
        tuple(lines),
        Axis("step", ends=(0, 200)),
        Axis("f / f₀", log=True, ends=(1e-12, 10)),
        shape="wide",
        note="Dotted: the factor that theory gives a method with its best settings, squared, to the power of the step.",
    )


def _powers(exponents: Tensor) -> Numbers:
    return numbers(10.0 ** float(value) if float(value) > -13 else math.nan for value in exponents)
