"""Where to start on a nonconvex function: many random starts find the global minimum more often.

The lecture's g(x, y) = Σᵢ aᵢ sin(bᵢ x + cᵢ y) + dᵢ cos(eᵢ x + fᵢ y), i = 1, 2, with random amplitudes and whole
frequencies, so that it repeats every 2π and its global minimum is known from a fine grid. If one start succeeds
with probability p, the best of R does with 1 − (1 − p)^R.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.paths import Function, contours, follow
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.gallery.spread import Estimate, mean
from descend.optim import sgd
from descend.rng import generator

__all__ = ["COUNTS", "Landscape", "Measured", "landscape", "measure", "picture"]

COUNTS = (1, 2, 4, 8, 16, 32)
"""Numbers of starts."""

CLOSE = 1e-3
"""A start has found the global minimum if it ends within this share of the function's range above it."""


@dataclass(frozen=True)
class Landscape:
    """Amplitudes (landscapes, 4) and frequencies (landscapes, 4, 2) of sin, sin, cos, cos."""

    amplitudes: Tensor
    frequencies: Tensor

    def at(self, points: Tensor) -> Tensor:
        """(landscapes, n, 2) → (landscapes, n)."""
        phases = torch.einsum("lkd,lnd->lnk", self.frequencies, points)
        waves = torch.cat([phases[..., :2].sin(), phases[..., 2:].cos()], -1)
        return (waves * self.amplitudes.unsqueeze(1)).sum(-1)

    @property
    def curvature(self) -> Tensor:
        """(landscapes,), a bound of the largest curvature: Σ |a| ‖(b, c)‖²."""
        return (self.amplitudes.abs() * self.frequencies.square().sum(-1)).sum(-1)


def landscape(seed: int, count: int) -> Landscape:
    """Random functions of the lecture's form, each divided by the bound of its curvature."""
    draws = generator(seed, "gallery/restarts")
    amplitudes = torch.randn(count, 4, generator=draws, dtype=torch.float64)
    frequencies = torch.randint(-3, 4, (count, 4, 2), generator=draws).double()
    frequencies[..., 0] = torch.where((frequencies == 0).all(-1), 1.0, frequencies[..., 0])
    made = Landscape(amplitudes, frequencies)
    return Landscape(amplitudes / made.curvature.unsqueeze(1), frequencies)


@dataclass(frozen=True)
class Measured:
    """The landscapes, where starts began and ended, (landscapes, starts, 2), and which found the minimum."""

    ground: Landscape
    begin: Tensor
    end: Tensor
    found: Tensor

    def success(self, count: int) -> Tensor:
        """(landscapes,), the share of groups of so many starts of which one found the minimum."""
        groups = self.found.unfold(1, count, count)
        return groups.any(2).double().mean(1)

    def theory(self, count: int) -> Tensor:
        """(landscapes,), 1 − (1 − p)^R."""
        return 1.0 - (1.0 - self.found.double().mean(1)) ** count


def measure(seed: int = 0, *, landscapes: int = 60, starts: int = 256, steps: int = 400) -> Measured:
    """Descend from random starts, with rate 1/L.

    Args:
        seed: functions and starts.
        landscapes: how many functions.
        starts: on each.
        steps: of gradient descent with momentum.
    """
    ground = landscape(seed, landscapes)
    draws = generator(seed, "gallery/restarts/starts")
    begin = (2 * torch.rand(landscapes, starts, 2, generator=draws, dtype=torch.float64) - 1) * math.pi
    end = _settled(ground, begin, steps)
    heights = ground.at(end)
    lowest, highest = _extremes(ground)
    close = CLOSE * (highest - lowest).unsqueeze(1)
    return Measured(ground, begin, end, heights <= lowest.unsqueeze(1) + close)


def _settled(ground: Landscape, begin: Tensor, steps: int) -> Tensor:
    def function(points: Tensor) -> Tensor:
        return ground.at(points)

    return follow(function, begin, lambda p: sgd(p, lr=1.0, momentum=0.5), steps)[-1]


def _extremes(ground: Landscape, side: int = 160) -> tuple[Tensor, Tensor]:
    """The lowest and highest values: on a grid, the lowest then by descent from the lowest cells."""
    line = torch.linspace(-math.pi, math.pi, side + 1, dtype=torch.float64)[:-1]
    grid = torch.cartesian_prod(line, line).expand(len(ground.amplitudes), -1, 2)
    heights = ground.at(grid)
    cells = heights.topk(8, dim=1, largest=False).indices
    best = torch.gather(grid, 1, cells.unsqueeze(2).expand(-1, -1, 2))
    return ground.at(_settled(ground, best, 100)).min(1).values, heights.max(1).values


def picture(found: Measured) -> Picture:
    """One landscape with the ends of its starts, and success against the number of starts."""
    shares = {count: mean(found.success(count).tolist()) for count in COUNTS}
    theory = [float(found.theory(count).mean()) for count in COUNTS]
    rates = found.found.double().mean(1)
    shown = int((rates - 0.3).abs().argmin())  # one where a start succeeds about as often as not
    one = Landscape(found.ground.amplitudes[shown : shown + 1], found.ground.frequencies[shown : shown + 1])

    def surface(points: Tensor) -> Tensor:
        return one.at(points.reshape(1, -1, 2)).reshape(points.shape[:-1])

    wrapped = (found.end[shown] + math.pi) % (2 * math.pi) - math.pi
    hit = found.found[shown]
    panels = (
        _map(surface, wrapped, hit, float(rates[shown])),
        Panel(
            "Share that found the global minimum",
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
            note=f"The mean over {len(rates)} functions, with its 95 % interval.",
        ),
    )
    once, eight = shares[1], shares[8]
    return Picture(
        name="restarts",
        title="Many starts find the global minimum",
        claim="On nonconvex functions the start matters a lot; a common heuristic is several random, independent runs.",
        see="Where a descent ends depends on the basin it begins in. Each start has its chance, and of several "
        "independent ones the best is kept.",
        number="% of groups of 8 starts that find the global minimum",
        value=Estimate(100 * eight.value, 100 * _low(eight), 100 * _high(eight)),
        finding=f"Over {len(rates)} functions of the lecture's form, one start finds the global minimum in "
        f"{100 * once.value:.0f} % of the cases ({100 * _low(once):.0f} to {100 * _high(once):.0f}), the best of 8 in "
        f"{100 * eight.value:.0f} % ({100 * _low(eight):.0f} to {100 * _high(eight):.0f}).",
        supported=_low(eight) > _high(once),
        panels=panels,
    )


def _map(surface: Function, ends: Tensor, hit: Tensor, rate: float) -> Panel:
    window = (-math.pi, math.pi)
    return Panel(
        "One of the functions, and where descents end",
        (
            contours(surface, window, window),
            Points(numbers(ends[~hit, 0]), numbers(ends[~hit, 1]), "a local minimum", "s2", size=9),
            Points(numbers(ends[hit, 0]), numbers(ends[hit, 1]), "the global minimum", "s1", size=11),
        ),
        Axis("x", ends=window),
        Axis("y", ends=window),
        shape="square",
        equal=True,
        note=f"Here {rate:.0%} of the starts find it. Many ends lie on top of each other.",
    )


def _low(found: Estimate) -> float:
    return found.value if found.low is None else found.low


def _high(found: Estimate) -> float:
    return found.value if found.high is None else found.high
