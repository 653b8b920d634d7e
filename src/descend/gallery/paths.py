"""Functions of the plane, and the path that an optimizer takes on one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.gallery.picture import Contours, numbers

__all__ = [
    "Family",
    "Function",
    "Maker",
    "beale",
    "contours",
    "first_within",
    "follow",
    "saddle",
    "valley",
    "with_rate",
]

Function = Callable[[Tensor], Tensor]
"""(..., 2) points to (...) values."""

Maker = Callable[[list[Tensor]], Optimizer]
"""An optimizer of parameters, as ``lambda p: sgd(p, lr=0.1)``."""

Family = Callable[[list[Tensor], float], Optimizer]
"""An optimizer of parameters with a rate, as ``lambda p, t: sgd(p, lr=t)``."""


def with_rate(family: Family, rate: float) -> Maker:
    """One of the family."""
    return lambda parameters: family(parameters, rate)


def saddle(x: Tensor) -> Tensor:
    """x²/2 − y²/2 + y⁴/4: a saddle at the origin between the minima (0, ±1), where it is −1/4."""
    return 0.5 * x[..., 0] ** 2 - 0.5 * x[..., 1] ** 2 + 0.25 * x[..., 1] ** 4


def beale(x: Tensor) -> Tensor:
    """Beale's function, minimum 0 at (3, 1/2), with steep walls and a long flat valley.

    Source: Beale, "On an iterative method for finding a local minimum of a function of more than one
    variable", 1958.
    """
    a, b = x[..., 0], x[..., 1]
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def valley(x: Tensor) -> Tensor:
    """(x² + 100 y²)/2: an elongated bowl with condition number 100, minimum 0 at the origin."""
    return 0.5 * (x[..., 0] ** 2 + 100.0 * x[..., 1] ** 2)


def follow(function: Function, start: Tensor, make: Maker, steps: int) -> Tensor:
    """The points that an optimizer visits: (steps + 1, *start.shape), float64.

    Many starts (n, 2) are followed at once, which for elementwise optimizers is each by itself.

    >>> from descend.optim import sgd
    >>> bowl = lambda x: 0.5 * (x**2).sum(-1)
    >>> follow(bowl, torch.tensor([1.0, 2.0]), lambda p: sgd(p, lr=0.5), 2)[:, 0].tolist()
    [1.0, 0.5, 0.25]
    """
    point = start.detach().double().clone().requires_grad_()
    optimizer = make([point])
    visited = torch.empty((steps + 1, *point.shape), dtype=torch.float64)
    visited[0] = point.detach()

    def closure() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = function(point).sum()
        value.backward()
        return value

    for step in range(1, steps + 1):
        optimizer.step(closure)  # type: ignore[arg-type]  # torch says float, and takes tensors
        visited[step] = point.detach()
    return visited


def first_within(values: Tensor, bound: float) -> Tensor:
    """The first step at which a value is at most the bound, for each column of (steps, ...); −1 for never.

    >>> first_within(torch.tensor([[3.0, 3.0], [1.0, 2.0], [0.0, 1.5]]), 1.0).tolist()
    [1, -1]
    """
    reached = values <= bound
    return torch.where(reached.any(0), reached.int().argmax(0), torch.tensor(-1))


def contours(
    function: Function,
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    levels: int = 14,
    squeeze: Callable[[Tensor], Tensor] = lambda z: z,
    points: int = 81,
) -> Contours:
    """A function on a rectangle; ``squeeze`` makes levels of a steep one readable, as a logarithm does."""
    across = torch.linspace(*x, points, dtype=torch.float64)
    up = torch.linspace(*y, points, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), -1)
    z = squeeze(function(grid))
    return Contours(numbers(across), numbers(up), tuple(numbers(row) for row in z), levels)
