"""Adaptive learning rates: dividing by the size of past gradients balances the coordinates.

On f(x) = x₁² + c x₂² the step of Adagrad is t g/√Σg². With g₂ = 2c x₂ the factor 2c cancels, so that from equal
coordinates both move equally for every c, straight to the minimum. The learning rate of gradient descent is limited
by the steep coordinate, and its number of steps grows with c. The cancellation holds per coordinate: it fails when
the bowl is rotated by 45°.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from descend.gallery.intervals import exact
from descend.gallery.paths import Family, Function, contours, first_within, follow, with_lr
from descend.gallery.picture import Axis, Line, Panel, Picture, Points, numbers
from descend.optim import adagrad, adam, rmsprop, sgd

__all__ = ["CLOSE", "Measurement", "bowl", "measure", "picture"]

CLOSE = 0.01
"""Distance from the minimum that counts as convergence, as a fraction of the initial distance."""

LEARNING_RATES = (0.02, 0.05, 0.1, 0.2, 0.5)
"""Learning rates of the adaptive methods. Their first step has the learning rate as its length, so that 2 would reach the
minimum in one step."""

METHODS: dict[str, Family] = {
    "gradient descent": lambda p, t: sgd(p, lr=t),
    "Adagrad": lambda p, t: adagrad(p, lr=t, fused=True),
    "RMSprop": lambda p, t: rmsprop(p, lr=t, alpha=0.9),
    "Adam": lambda p, t: adam(p, lr=t, fused=True),
}


def bowl(ratio: float, *, turned: bool = False) -> Function:
    """Return x₁² + c x₂², or the same function rotated by 45°."""

    def function(x: Tensor) -> Tensor:
        a, b = x[..., 0], x[..., 1]
        if turned:
            a, b = (a + b) / 2**0.5, (b - a) / 2**0.5
        return a**2 + ratio * b**2

    return function


@dataclass(frozen=True)
class Measurement:
    """Paths at c = 4, and numbers of steps by method, rotation and ratio (−1 if not converged)."""

    ratios: tuple[float, ...]
    paths: dict[str, Tensor]
    steps: dict[tuple[str, bool], list[int]]


def measure(
    seed: int = 0, *, ratios: tuple[float, ...] = (1.0, 4.0, 16.0, 64.0, 256.0), max_steps: int = 800
) -> Measurement:
    """Count the steps of each method until convergence, with its best learning rate; nothing here is random.

    Gradient descent uses its optimal learning rate, 1/(1 + c). The others use the best of ``LEARNING_RATES``.

    Args:
        seed: not used.
        ratios: values of c.
        max_steps: largest number of steps.
    """
    start = torch.tensor([2.0, 2.0])
    steps: dict[tuple[str, bool], list[int]] = {}
    paths: dict[str, Tensor] = {}
    for name, make in METHODS.items():
        for turned in (False, True):
            # Rotated with the bowl, so that the start is equivalent.
            begin = torch.tensor([0.0, 2.0 * 2**0.5]) if turned else start
            result = []
            for ratio in ratios:
                count, path = _best(
                    bowl(ratio, turned=turned), begin, make, _learning_rates(name, ratio), max_steps
                )
                result.append(count)
                if ratio == 4.0 and not turned:
                    paths[name] = path
            steps[name, turned] = result
    return Measurement(ratios, paths, steps)


def _learning_rates(name: str, ratio: float) -> tuple[float, ...]:
    return (1.0 / (1.0 + ratio),) if name == "gradient descent" else LEARNING_RATES


def _best(
    function: Function, start: Tensor, make: Family, lrs: tuple[float, ...], max_steps: int
) -> tuple[int, Tensor]:
    """Return the smallest number of steps over the learning rates, and the path."""
    count, kept = -1, torch.empty(0)
    for lr in lrs:
        # No path needs to be longer than the best one so far.
        path = follow(function, start, with_lr(make, lr), max_steps if count < 0 else count)
        distance = path.norm(dim=1) / start.double().norm()
        arrived = int(first_within(distance, CLOSE))
        if arrived >= 0 and (count < 0 or arrived < count):
            count, kept = arrived, path
    return count, kept


_COLORS = {"gradient descent": "s2", "Adagrad": "s1", "RMSprop": "s3", "Adam": "s4"}


def picture(result: Measurement) -> Picture:
    """Return panels of the paths at c = 4, and of the steps as the bowl gets longer."""
    ground = contours(bowl(4.0), (-0.7, 2.3), (-0.9, 2.3), squeeze=torch.sqrt)
    path_lines = [
        Line(numbers(path[:41, 0]), numbers(path[:41, 1]), name, _COLORS[name], dots=True, width=1.6)
        for name, path in result.paths.items()
    ]
    paths = Panel(
        "Paths on x₁² + 4 x₂², each method with its best learning rate",
        (ground, *path_lines, Points((0.0,), (0.0,), color="ink", size=8)),
        Axis("x₁", ends=(-0.7, 2.3)),
        Axis("x₂", ends=(-0.9, 2.3)),
        shape="wide",
    )
    panels = [paths]
    for turned, title in (
        (False, "Steps to convergence, x₁² + c x₂²"),
        (True, "Steps to convergence, rotated by 45°"),
    ):
        panels.append(
            Panel(
                title,
                tuple(
                    Line(
                        numbers(result.ratios),
                        numbers(result.steps[name, turned], above=0.0),
                        name,
                        _COLORS[name],
                        dots=True,
                    )
                    for name in METHODS
                ),
                Axis("c", log=True),
                Axis("steps", log=True),
                note=f"Converged: at most {CLOSE:.0%} of the initial distance. Best learning rate of each method.",
            )
        )
    at = [result.ratios.index(4.0), len(result.ratios) - 1]
    grows = {key: _growth(steps, at) for key, steps in result.steps.items()}
    long = result.ratios[-1]
    plain, own, turned_too = grows["gradient descent", False], grows["Adagrad", False], grows["Adagrad", True]
    return Picture(
        name="adaptive",
        title="Adaptive learning rates on elongated functions",
        claim="Gradient descent is slow on elongated functions such as x₁² + 4x₂². Dividing each coordinate of the step by "
        "the size of its past gradients balances the coordinates.",
        see="Adagrad moves straight to the minimum, while gradient descent first crosses the bowl. As the bowl gets longer, "
        "gradient descent needs more steps and Adagrad the same number. After a rotation by 45° the coordinates are no "
        "longer the axes of the bowl, and the advantage of Adagrad disappears.",
        number=f"growth of the steps of gradient descent over that of Adagrad, from c = 4 to {long:g}",
        value=exact(plain / own),
        finding=f"From c = 4 to c = {long:g} the number of steps grows by a factor of {plain:.3g} for gradient "
        f"descent and {own:.3g} "
        f"for Adagrad. On the bowl rotated by 45° that of Adagrad grows {_format_growth(turned_too)}: Adagrad balances "
        "coordinates, not curvature.",
        supported=plain > 2 * own,
        panels=tuple(panels),
    )


def _growth(steps: list[int], at: list[int]) -> float:
    first, last = steps[at[0]], steps[at[1]]
    return last / first if first > 0 and last > 0 else float("inf")


def _format_growth(growth: float) -> str:
    return f"by a factor of {growth:.3g}" if growth < float("inf") else "beyond the maximum"
