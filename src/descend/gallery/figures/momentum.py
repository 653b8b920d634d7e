"""Momentum: the zig-zag of gradient descent on an elongated bowl, and how the heavy ball smooths it.

On f(x) = ½(x₁² + κ x₂²) with the optimal constant settings each step asymptotically multiplies the error by

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

from descend.gallery.intervals import mean, ratio
from descend.gallery.paths import Function, Maker, contours, first_within, follow
from descend.gallery.picture import Axis, Line, Numbers, Panel, Picture, Points, numbers
from descend.optim import heavy_ball, nesterov, sgd
from descend.rng import generator

__all__ = ["Measurement", "measure", "methods", "picture"]

TARGET = 1e-6
"""Target value of f, as a fraction of its initial value."""


@dataclass(frozen=True)
class Measurement:
    """Path, objective, number of steps and shape of the path for each method and start.

    Args:
        condition: condition number κ.
        paths: visited points, (steps + 1, starts, 2).
        values: values of f, (steps + 1, starts).
        steps: first step at which f is at most ``TARGET`` times its initial value, −1 if none, (starts,).
        turns: fraction of the steps until then that reverse the previous one, (starts,).
        lengths: length of the path until then, as a multiple of the straight line, (starts,).
    """

    condition: float
    paths: dict[str, Tensor]
    values: dict[str, Tensor]
    steps: dict[str, Tensor]
    turns: dict[str, Tensor]
    lengths: dict[str, Tensor]


def methods(condition: float) -> dict[str, tuple[Maker, float]]:
    """Return each method with its optimal settings for L = κ, μ = 1, and its theoretical factor."""
    k, root, third = condition, math.sqrt(condition), math.sqrt(3 * condition + 1)
    ball = ((root - 1) / (root + 1)) ** 2
    ahead = (third - 2) / (third + 2)
    return {
        "gradient descent": (lambda p: sgd(p, lr=2 / (k + 1)), (k - 1) / (k + 1)),
        "heavy ball": (
            lambda p: heavy_ball(p, lr=4 / (root + 1) ** 2, momentum=ball),
            (root - 1) / (root + 1),
        ),
        "heavy ball, ¾ of the learning rate": (
            lambda p: heavy_ball(p, lr=3 / (root + 1) ** 2, momentum=ball),
            (root - 1) / (root + 1),
        ),
        "Nesterov": (
            lambda p: nesterov(p, lr=4 / (3 * k + 1), momentum=ahead),
            1 - 2 / third,
        ),
    }


def measure(seed: int = 0, *, condition: float = 50.0, starts: int = 20, steps: int = 500) -> Measurement:
    """Run each method from the same random starts.

    Args:
        seed: seed of the starts.
        condition: condition number κ.
        starts: number of starts.
        steps: number of steps of each method.
    """
    directions = torch.rand(starts, generator=generator(seed, "gallery/momentum")).double()
    # The coordinates have similar size after scaling by the curvature; otherwise the paths would not zig-zag.
    angle = 0.25 * math.pi + 0.6 * (directions - 0.5)
    begin = torch.stack([10 * angle.cos(), 10 * angle.sin() / math.sqrt(condition)], 1)

    bowl = _bowl(condition)
    paths = {name: follow(bowl, begin, make, steps) for name, (make, _) in methods(condition).items()}
    values = {name: bowl(path) for name, path in paths.items()}
    reached = {name: first_within(value / value[0], TARGET) for name, value in values.items()}
    shapes = {name: _shape(path, reached[name]) for name, path in paths.items()}
    turns = {name: shape[0] for name, shape in shapes.items()}
    lengths = {name: shape[1] for name, shape in shapes.items()}
    return Measurement(condition, paths, values, reached, turns, lengths)


def _bowl(condition: float) -> Function:
    return lambda x: 0.5 * (x[..., 0] ** 2 + condition * x[..., 1] ** 2)


def _shape(path: Tensor, ends: Tensor) -> tuple[Tensor, Tensor]:
    """Return the fraction of steps that reverse, and the length over the straight line, up to the end of each path."""
    turns, lengths = [], []
    for at, end in enumerate(ends.tolist()):
        moves = path[: end + 1, at].diff(dim=0) if end >= 0 else path[:, at].diff(dim=0)
        turns.append(((moves[1:] * moves[:-1]).sum(1) < 0).double().mean())
        lengths.append(moves.norm(dim=1).sum() / path[0, at].norm())
    return torch.stack(turns), torch.stack(lengths)


_COLORS = {
    "gradient descent": "s2",
    "heavy ball": "s4",
    "heavy ball, ¾ of the learning rate": "s1",
    "Nesterov": "s3",
}


def picture(result: Measurement) -> Picture:
    """Return panels of the paths from one start, and of the objective by step."""
    ground = contours(_bowl(result.condition), (-2, 9), (-3.2, 3.2), squeeze=torch.sqrt)
    paths = tuple(
        Panel(
            name[:1].upper() + name[1:],
            (
                ground,
                Line(
                    numbers(path[:31, 0, 0]),
                    numbers(path[:31, 0, 1]),
                    color=_COLORS[name],
                    dots=True,
                    width=1.6,
                ),
                Points((0.0,), (0.0,), color="ink", size=8),
            ),
            Axis("x₁", ends=(-2, 9)),
            Axis("x₂", ends=(-3.2, 3.2)),
            note=f"The first 30 steps. {result.turns[name].mean():.0%} of the steps reverse, "
            f"and the path is {result.lengths[name].mean():.1f} times as long as the straight line.",
        )
        for name, path in result.paths.items()
    )
    counts = {name: mean(steps.tolist()) for name, steps in result.steps.items()}
    gain = ratio(
        slow / fast
        for slow, fast in zip(
            result.steps["gradient descent"].tolist(), result.steps["heavy ball"].tolist(), strict=True
        )
    )
    smooth = ratio(
        (result.lengths["gradient descent"] / result.lengths["heavy ball, ¾ of the learning rate"]).tolist()
    )
    every = all(bool((steps > 0).all()) for steps in result.steps.values())
    step_counts = ", ".join(f"{name} {round(count.value)}" for name, count in counts.items())
    return Picture(
        name="momentum",
        title="Momentum and the zig-zag of gradient descent",
        claim="Gradient descent zig-zags on an elongated function and is slow. Momentum (heavy ball, Nesterov) smooths the path "
        "at the same cost per step.",
        see="With its optimal learning rate gradient descent crosses the valley at every step. The heavy ball is fastest with "
        "settings at which it crosses the valley as well; with three quarters of that learning rate it is almost as fast "
        "and its path is smooth. In the last panel the curves are parallel to the dotted theoretical lines.",
        number="steps of gradient descent over steps of the heavy ball",
        value=gain,
        finding=f"Condition number {result.condition:g}; steps until f is a millionth of its initial value: {step_counts}. "
        f"Gradient descent takes {gain} times as many steps as the heavy ball. With its fastest settings the heavy ball "
        f"zig-zags as much; with ¾ of the learning rate its path is shorter than that of gradient descent by a factor of "
        f"{smooth}.",
        supported=every and (gain.low or gain.value) > 1.0 and (smooth.low or smooth.value) > 1.0,
        panels=(*paths, _speed(result)),
    )


def _speed(result: Measurement) -> Panel:
    lines = []
    steps = numbers(range(251))
    for name, value in result.values.items():
        shown = (value / value[0]).log10().mean(1)[:251]
        factor = math.log10(methods(result.condition)[name][1])
        theory = torch.arange(251) * 2 * factor
        color = _COLORS[name]
        lines.append(Line(steps, _powers(shown), name, color))
        if "¾" not in name:
            lines.append(Line(steps, _powers(theory), "", color, dash="dot", width=1.3))
    return Panel(
        "Objective over its initial value, mean over starts",
        tuple(lines),
        Axis("step", ends=(0, 200)),
        Axis("f / f₀", log=True, ends=(1e-12, 10)),
        shape="wide",
        note="Dotted: squared theoretical factor with optimal settings, to the power of the step.",
    )


def _powers(exponents: Tensor) -> Numbers:
    return numbers(10.0 ** float(value) if float(value) > -13 else math.nan for value in exponents)
