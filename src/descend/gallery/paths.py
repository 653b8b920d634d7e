"""Functions of two variables, and the path of an optimizer on them."""

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
    "with_lr",
]

Function = Callable[[Tensor], Tensor]
"""Maps points (..., 2) to values (...)."""

Maker = Callable[[list[Tensor]], Optimizer]
"""Creates an optimizer of parameters, as ``lambda p: sgd(p, lr=0.1)``."""

Family = Callable[[list[Tensor], float], Optimizer]
"""Creates an optimizer of parameters with a learning rate, as ``lambda p, t: sgd(p, lr=t)``."""


def with_lr(family: Family, lr: float) -> Maker:
    """Return the member of the family with a learning rate."""
    return lambda parameters: family(parameters, lr)


def saddle(x: Tensor) -> Tensor:
    """Return x²/2 − y²/2 + y⁴/4, which has a saddle at the origin and minima of −1/4 at (0, ±1)."""
    return 0.5 * x[..., 0] ** 2 - 0.5 * x[..., 1] ** 2 + 0.25 * x[..., 1] ** 4


def beale(x: Tensor) -> Tensor:
    """Return Beale's function, with minimum 0 at (3, 1/2), steep walls and a long flat valley.

    Source: Beale, "On an iterative method for finding a local minimum of a function of more than one
    variable", 1958.
    """
    a, b = x[..., 0], x[..., 1]
    return (1.5 - a + a * b) ** 2 + (2.25 - a + a * b**2) ** 2 + (2.625 - a + a * b**3) ** 2


def valley(x: Tensor) -> Tensor:
    """Return (x² + 100 y²)/2, an elongated bowl with condition number 100 and minimum 0 at the origin."""
    return 0.5 * (x[..., 0] ** 2 + 100.0 * x[..., 1] ** 2)


def follow(function: Function, start: Tensor, make: Maker, steps: int) -> Tensor:
    """Return the points that an optimizer visits, (steps + 1, *start.shape), float64.

    Several starts (n, 2) are followed at once; for elementwise optimizers this equals separate runs.

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
        optimizer.step(closure)  # type: ignore[arg-type]  # torch annotates float, but accepts tensors
        visited[step] = point.detach()
    return visited


def first_within(values: Tensor, bound: float) -> Tensor:
    """Return the first step at which a value is at most the bound, for each column of (steps, ...); −1 if there is none.

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
    """Return a function on a rectangle as contours.

    Args:
        function: the function.
        x: range of the horizontal axis.
        y: range of the vertical axis.
        levels: number of levels. Default 14.
        squeeze: monotone transformation of the values, which makes the levels of a steep function readable. Default
            the identity.
        points: number of grid points along each axis. Default 81.
    """
    across = torch.linspace(*x, points, dtype=torch.float64)
    up = torch.linspace(*y, points, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(across, up, indexing="xy"), -1)
    z = squeeze(function(grid))
    return Contours(numbers(across), numbers(up), tuple(numbers(row) for row in z), levels)
