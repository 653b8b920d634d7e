"""Random restarts on a nonconvex function: many starts find the global minimum more often.

g(x, y) = Σᵢ aᵢ sin(bᵢ x + cᵢ y) + dᵢ cos(eᵢ x + fᵢ y), i = 1, 2, with random amplitudes and integer frequencies, is
periodic with period 2π, so that its global minimum is known from a fine grid. If one start succeeds with probability p,
the best of R starts does with probability 1 − (1 − p)^R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.intervals import Estimate, mean
from descend.gallery.paths import Function, contours, follow
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.optim import sgd
from descend.rng import generator

__all__ = ["COUNTS", "Landscape", "Measurement", "landscape", "measure", "picture"]

COUNTS = (1, 2, 4, 8, 16, 32)
"""Numbers of starts."""

CLOSE = 1e-3
"""A start finds the global minimum if it ends at most this fraction of the function's range above it."""


@dataclass(frozen=True)
class Landscape:
    """Amplitudes (landscapes, 4) and frequencies (landscapes, 4, 2) of sin, sin, cos, cos."""

    amplitudes: Tensor
    frequencies: Tensor

    def at(self, points: Tensor) -> Tensor:
        """Return the values at points, (landscapes, n, 2) → (landscapes, n)."""
        phases = torch.einsum("lkd,lnd->lnk", self.frequencies, points)
        waves = torch.cat([phases[..., :2].sin(), phases[..., 2:].cos()], -1)
        return (waves * self.amplitudes.unsqueeze(1)).sum(-1)

    @property
    def curvature(self) -> Tensor:
        """Upper bound of the largest curvature, Σ |a| ‖(b, c)‖², (landscapes,)."""
        return (self.amplitudes.abs() * self.frequencies.square().sum(-1)).sum(-1)


def landscape(seed: int, count: int) -> Landscape:
    """Return random functions, each divided by the bound of its curvature."""
    rng = generator(seed, "gallery/restarts")
    amplitudes = torch.randn(count, 4, generator=rng, dtype=torch.float64)
    frequencies = torch.randint(-3, 4, (count, 4, 2), generator=rng).double()
    frequencies[..., 0] = torch.where((frequencies == 0).all(-1), 1.0, frequencies[..., 0])
    unscaled = Landscape(amplitudes, frequencies)
    return Landscape(amplitudes / unscaled.curvature.unsqueeze(1), frequencies)


@dataclass(frozen=True)
class Measurement:
    """Landscapes and descents on them.

    Args:
        ground: the functions.
        begin: start points, (landscapes, starts, 2).
        end: end points, (landscapes, starts, 2).
        hits: whether a start found the global minimum, (landscapes, starts).
    """

    ground: Landscape
    begin: Tensor
    end: Tensor
    hits: Tensor

    def success(self, count: int) -> Tensor:
        """Return the fraction of groups of ``count`` starts of which one found the minimum, (landscapes,)."""
        groups = self.hits.unfold(1, count, count)
        return groups.any(2).double().mean(1)

    def theory(self, count: int) -> Tensor:
        """Return 1 − (1 − p)^R, (landscapes,)."""
        return 1.0 - (1.0 - self.hits.double().mean(1)) ** count


def measure(seed: int = 0, *, landscapes: int = 60, starts: int = 256, steps: int = 400) -> Measurement:
    """Descend from random starts with learning rate 1/L.

    Args:
        seed: seed of functions and starts.
        landscapes: number of functions.
        starts: number of starts on each function.
        steps: steps of gradient descent with momentum.
    """
    ground = landscape(seed, landscapes)
    rng = generator(seed, "gallery/restarts/starts")
    begin = (2 * torch.rand(landscapes, starts, 2, generator=rng, dtype=torch.float64) - 1) * math.pi
    end = _settled(ground, begin, steps)
    heights = ground.at(end)
    lowest, highest = _extremes(ground)
    close = CLOSE * (highest - lowest).unsqueeze(1)
    return Measurement(ground, begin, end, heights <= lowest.unsqueeze(1) + close)


def _settled(ground: Landscape, begin: Tensor, steps: int) -> Tensor:
    def function(points: Tensor) -> Tensor:
        return ground.at(points)

    return follow(function, begin, lambda p: sgd(p, lr=1.0, momentum=0.5), steps)[-1]


def _extremes(ground: Landscape, side: int = 160) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest values: on a grid, the lowest refined by descent from the lowest cells."""
    line = torch.linspace(-math.pi, math.pi, side + 1, dtype=torch.float64)[:-1]
    grid = torch.cartesian_prod(line, line).expand(len(ground.amplitudes), -1, 2)
    heights = ground.at(grid)
    cells = heights.topk(8, dim=1, largest=False).indices
    best = torch.gather(grid, 1, cells.unsqueeze(2).expand(-1, -1, 2))
    return ground.at(_settled(ground, best, 100)).min(1).values, heights.max(1).values


def picture(result: Measurement) -> Picture:
    """Return panels of one landscape with the ends of its descents, and of the success by number of starts."""
    shares = {count: mean(result.success(count).tolist()) for count in COUNTS}
    theory = [float(result.theory(count).mean()) for count in COUNTS]
    success = result.hits.double().mean(1)
    shown = int((success - 0.3).abs().argmin())  # a function on which about 30 % of the starts succeed
    one = Landscape(result.ground.amplitudes[shown : shown + 1], result.ground.frequencies[shown : shown + 1])

    def surface(points: Tensor) -> Tensor:
        return one.at(points.reshape(1, -1, 2)).reshape(points.shape[:-1])

    wrapped = (result.end[shown] + math.pi) % (2 * math.pi) - math.pi
    hit = result.hits[shown]
    panels = (
        _map(surface, wrapped, hit, float(success[shown])),
        Panel(
            "Groups that find the global minimum",
            (
                Line(
                    numbers(COUNTS),
                    numbers(100 * shares[count].value for count in COUNTS),
                    "measured",
                    "s1",
                    dots=True,
                    low=numbers(100 * _low(shares[count]) for count in COUNTS),
                    high=numbers(100 * _high(shares[count]) for count in COUNTS),
                ),
                Line(numbers(COUNTS), numbers(100 * p for p in theory), "1 − (1 − p)ᴿ", "s2", dash="dash"),
            ),
            Axis("starts R", log=True),
            Axis("% of groups of R starts", ends=(0, 104)),
            shape="square",
            note=f"Mean over {len(success)} functions with its 95 % interval.",
        ),
    )
    once, eight = shares[1], shares[8]
    return Picture(
        name="restarts",
        title="Random restarts and the global minimum",
        claim="On nonconvex functions the start matters; a common heuristic is several independent runs from random starts.",
        see="Where a descent ends depends on the basin of its start. Each start succeeds with some probability, and the best of "
        "several independent ones is kept.",
        number="% of groups of 8 starts that find the global minimum",
        value=Estimate(100 * eight.value, 100 * _low(eight), 100 * _high(eight)),
        finding=f"Over {len(success)} functions, one start finds the global minimum in {100 * once.value:.0f} % of the cases "
        f"({100 * _low(once):.0f} to {100 * _high(once):.0f}), the best of 8 in {100 * eight.value:.0f} % "
        f"({100 * _low(eight):.0f} to {100 * _high(eight):.0f}).",
        supported=_low(eight) > _high(once),
        panels=panels,
    )


def _map(surface: Function, ends: Tensor, hit: Tensor, success_rate: float) -> Panel:
    window = (-math.pi, math.pi)
    return Panel(
        "One of the functions with the ends of the descents",
        (
            contours(surface, window, window),
            Points(numbers(ends[~hit, 0]), numbers(ends[~hit, 1]), "a local minimum", "s2", size=9),
            Points(numbers(ends[hit, 0]), numbers(ends[hit, 1]), "the global minimum", "s1", size=11),
        ),
        Axis("x", ends=window),
        Axis("y", ends=window),
        shape="square",
        equal=True,
        note=f"Here {success_rate:.0%} of the starts find the global minimum. Many ends coincide.",
    )


def _low(estimate: Estimate) -> float:
    return estimate.value if estimate.low is None else estimate.low


def _high(estimate: Estimate) -> float:
    return estimate.value if estimate.high is None else estimate.high
