"""Adaptive rates: dividing by the size of past gradients balances the coordinates.

On f(x) = x₁² + c x₂² Adagrad's step is t g/√Σg². With g₂ = 2c x₂ the factor 2c cancels, so from equal
coordinates the two move alike whatever c is, straight to the minimum; the rate of gradient descent is limited by
the steep coordinate, and its steps grow with c. The cancelling is one of coordinates: with the bowl turned
by 45° it is gone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.paths import Family, Function, contours, first_within, follow, with_rate
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.gallery.spread import exact
from descend.optim import adagrad, adam, rmsprop, sgd

__all__ = ["CLOSE", "Measured", "bowl", "measure", "picture"]

CLOSE = 0.01
"""The distance from the minimum that counts as arrival, as a share of the first."""

RATES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Of the adaptive methods. Their first step has the rate as its length, so 2 would be there in one."""

METHODS: dict[str, Family] = {
    "gradient descent": lambda p, t: sgd(p, lr=t),
    "Adagrad": lambda p, t: adagrad(p, lr=t, fused=True),
    "RMSprop": lambda p, t: rmsprop(p, lr=t, alpha=0.9),
    "Adam": lambda p, t: adam(p, lr=t, fused=True),
}


def bowl(ratio: float, *, turned: bool = False) -> Function:
    """x₁² + c x₂², or the same turned by 45°."""

    def function(x: Tensor) -> Tensor:
        a, b = x[..., 0], x[..., 1]
        if turned:
            a, b = (a + b) / 2**0.5, (b - a) / 2**0.5
        return a**2 + ratio * b**2

    return function


@dataclass(frozen=True)
class Measured:
    """Paths on the lecture's function, and steps by method, way of turning and ratio (−1 for never)."""

    ratios: tuple[float, ...]
    paths: dict[str, Tensor]
    steps: dict[tuple[str, bool], list[int]]


def measure(
    seed: int = 0, *, ratios: tuple[float, ...] = (1.0, 4.0, 16.0, 64.0, 256.0), most: int = 800
) -> Measured:
    """Steps of each method to come close, with the best of its rates; nothing here is random.

    Gradient descent has its best rate, 1/(1 + c). The others are tried with ``RATES``.

    Args:
        seed: not used.
        ratios: c.
        most: steps at most.
    """
    start = torch.tensor([2.0, 2.0])
    steps: dict[tuple[str, bool], list[int]] = {}
    paths: dict[str, Tensor] = {}
    for name, make in METHODS.items():
        for turned in (False, True):
            # Turned with the bowl, so that it is the same start.
            begin = torch.tensor([0.0, 2.0 * 2**0.5]) if turned else start
            found = []
            for ratio in ratios:
                count, path = _best(bowl(ratio, turned=turned), begin, make, _rates(name, ratio), most)
                found.append(count)
                if ratio == 4.0 and not turned:
                    paths[name] = path
            steps[name, turned] = found
    return Measured(ratios, paths, steps)


def _rates(name: str, ratio: float) -> tuple[float, ...]:
    return (1.0 / (1.0 + ratio),) if name == "gradient descent" else RATES


def _best(
    function: Function, start: Tensor, make: Family, rates: tuple[float, ...], most: int
) -> tuple[int, Tensor]:
    """The fewest steps with any of the rates, and that path."""
    count, kept = -1, torch.empty(0)
    for rate in rates:
        # No rate is followed for longer than the best so far.
        path = follow(function, start, with_rate(make, rate), most if count < 0 else count)
        distance = path.norm(dim=1) / start.double().norm()
        arrived = int(first_within(distance, CLOSE))
        if arrived >= 0 and (count < 0 or arrived < count):
            count, kept = arrived, path
    return count, kept


_COLOURS = {"gradient descent": "s2", "Adagrad": "s1", "RMSprop": "s3", "Adam": "s4"}


def picture(found: Measured) -> Picture:
    """Paths on the lecture's function, and the steps as the bowl gets longer."""
    ground = contours(bowl(4.0), (-0.7, 2.3), (-0.9, 2.3), squeeze=torch.sqrt)
    drawn = [
        Line(numbers(path[:41, 0]), numbers(path[:41, 1]), name, _COLOURS[name], dots=True, width=1.6)
        for name, path in found.paths.items()
    ]
    paths = Panel(
        "Paths on x₁² + 4 x₂², each with its best rate",
        (ground, *drawn, Points((0.0,), (0.0,), colour="ink", size=8)),
        Axis("x₁", ends=(-0.7, 2.3)),
        Axis("x₂", ends=(-0.9, 2.3)),
        shape="wide",
    )
    panels = [paths]
    for turned, title in ((False, "Steps to come close, x₁² + c x₂²"), (True, "The same, turned by 45°")):
        panels.append(
            Panel(
                title,
                tuple(
                    Line(
                        numbers(found.ratios),
                        numbers(found.steps[name, turned], above=0.0),
                        name,
                        _COLOURS[name],
                        dots=True,
                    )
                    for name in METHODS
                ),
                Axis("c", log=True),
                Axis("steps", log=True),
                note=f"Close is {CLOSE:.0%} of the first distance; each with the best of its rates.",
            )
        )
    at = [found.ratios.index(4.0), len(found.ratios) - 1]
    grows = {key: _growth(steps, at) for key, steps in found.steps.items()}
    long = found.ratios[-1]
    plain, own, turned_too = grows["gradient descent", False], grows["Adagrad", False], grows["Adagrad", True]
    return Picture(
        name="adaptive",
        title="Adaptive rates balance the coordinates",
        claim="Gradient descent struggles on elongated functions such as x₁² + 4x₂². Dividing each coordinate by the "
        "size of its past gradients balances the movements.",
        see="Adagrad walks straight to the minimum while gradient descent first crosses the bowl. As the bowl gets longer "
        "gradient descent needs more steps, Adagrad as many as before. Turned by 45°, the "
        "coordinates are no longer the bowl's axes, and Adagrad's advantage is gone.",
        number=f"growth of gradient descent's steps over Adagrad's, from c = 4 to {long:g}",
        value=exact(plain / own),
        finding=f"From c = 4 to c = {long:g} gradient descent's steps grow {plain:.3g} times, Adagrad's {own:.3g} times. "
        f"On the same bowl turned by 45° Adagrad's grow {_words(turned_too)}: what it balances is coordinates, not curvature.",
        supported=plain > 2 * own,
        panels=tuple(panels),
    )


def _growth(steps: list[int], at: list[int]) -> float:
    first, last = steps[at[0]], steps[at[1]]
    return last / first if first > 0 and last > 0 else float("inf")


def _words(growth: float) -> str:
    return f"{growth:.3g} times" if growth < float("inf") else "beyond what was tried"
