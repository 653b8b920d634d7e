"""Points of a space: at random, evenly spread at random (Sobol), and on a grid.

The first two are pure functions of (seed, number): the point of trial 17 is the same whatever was drawn
before it, and with it. So a search goes on after a kill without any state, and a longer one begins with the
points of a shorter one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping

import torch
from torch.quasirandom import SobolEngine

from descend.errors import UserError
from descend.experiments.search.dimension import Dimension
from descend.experiments.search.space import Point, Space
from descend.rng import key

__all__ = ["grid_levels", "grid_points", "quasi_random_points", "random_points"]


def random_points(space: Space, n: int, seed: int = 0, *, start: int = 0) -> list[Point]:
    """Independent points, uniform in each dimension's own measure.

    Each dimension draws from a stream of its own, so that adding one leaves the values of the others.

    Args:
        space: where to draw.
        n: how many.
        seed: of the draws.
        start: the number of the first point.

    >>> space = Space.of({"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}})
    >>> random_points(space, 3, seed=1)[1:] == random_points(space, 2, seed=1, start=1)
    True
    """
    return [
        space.point({each.key: _share(seed, each.key, number) for each in space})
        for number in range(start, start + n)
    ]


def _share(seed: int, name: str, number: int) -> float:
    """A number in [0, 1), uniform, with the 53 bits that float64 holds."""
    return (key(seed, f"search {name}", number) >> 10) / 2**53


def quasi_random_points(space: Space, n: int, seed: int = 0, *, start: int = 0) -> list[Point]:
    """Points of a scrambled Sobol sequence, which fill the space more evenly than independent ones.

    Any 2^k points from the start have exactly one coordinate in each of 2^k equal stretches of every dimension.

    Args:
        space: where to draw.
        n: how many.
        seed: of the scrambling.
        start: the number of the first point.

    >>> space = Space.of({"model.dropout": {"uniform": [0.0, 1.0]}})
    >>> sorted(int(4 * point["model.dropout"]) for point in quasi_random_points(space, 4, seed=3))
    [0, 1, 2, 3]

    Source: Owen, "Randomly permuted (t,m,s)-nets and (t,s)-sequences", 1995; :class:`torch.quasirandom.SobolEngine`.
    """
    engine = SobolEngine(len(space), scramble=True, seed=key(seed, "search sobol") >> 31)
    engine.fast_forward(start)
    drawn = engine.draw(n, dtype=torch.float64).tolist()
    return [space.point(dict(zip(space.keys, shares, strict=True))) for shares in drawn]


def grid_points(space: Space, n: int) -> list[Point]:
    """All points of the largest even grid of at most ``n`` points.

    Choices are taken whole; ranges get as many levels as fit, which grow in turn, and both of their ends.
    Points that differ only in dimensions that do not count there are one point.

    Args:
        space: what to cover.
        n: how many points there may be.

    Raises:
        UserError: choices, and levels that were asked for, make more than ``n`` points.

    >>> space = Space.of({"optimizer.name": ["sgd", "adamw"], "model.dropout": {"uniform": [0.0, 0.5]}})
    >>> [point["model.dropout"] for point in grid_points(space, 7)]
    [0.0, 0.25, 0.5, 0.0, 0.25, 0.5]
    """
    levels = {each.key: _fewest(each) for each in space}
    least = _size(space, levels, n)
    if least > n:
        raise UserError(
            f"the grid has {least if least < 10**6 else 'more than a million'} points at least, and {n} trials "
            "were asked for; allow more of them (--trials), or leave out choices"
        )
    growing = [each for each in space if each.kind != "choices" and each.levels is None]
    while growing:
        # The one with the fewest levels grows first; it stops where the grid would be too large.
        each = min(growing, key=lambda one: levels[one.key])
        more = levels | {each.key: levels[each.key] + 1}
        if more[each.key] > each.count or _size(space, more, n) > n:
            growing.remove(each)
        else:
            levels = more
    return _points(space, levels)


def grid_levels(space: Space, points: list[Point]) -> Mapping[str, int]:
    """How many values of each dimension a list of points holds."""
    return {each.key: len({str(point[each.key]) for point in points if each.key in point}) for each in space}


def _fewest(dimension: Dimension) -> int:
    if dimension.kind == "choices":
        return len(dimension.options)
    return int(min(dimension.levels or 1, dimension.count))


def _size(space: Space, levels: Mapping[str, int], limit: int) -> int:
    """The number of points. Without conditions it is a product, and needs no list of them."""
    product = math.prod(levels.values())
    if product <= limit or not any(each.when for each in space) or product > 10**6:
        return product
    return len(_points(space, levels))


def _points(space: Space, levels: Mapping[str, int]) -> list[Point]:
    found: dict[str, Point] = {}
    for values in itertools.product(*(each.grid(levels[each.key]) for each in space)):
        point: Point = {}
        for dimension, value in zip(space, values, strict=True):
            if space.counts(dimension, point):
                point[dimension.key] = value
        found.setdefault(repr(point), point)
    return list(found.values())
