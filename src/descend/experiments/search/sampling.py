"""Random, quasi-random (Sobol) and grid points of a search space.

Random and quasi-random points are pure functions of (seed, number): the point of trial 17 does not depend on how many
points are generated before it or together with it. So a search resumes without saved sampler state, and a longer search
starts with the points of a shorter one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch.quasirandom import SobolEngine

from descend.errors import UserError
from descend.experiments.search.dimension import Dimension
from descend.experiments.search.distinct import combinations
from descend.experiments.search.space import Point, Space
from descend.interface import option
from descend.rng import key

__all__ = ["grid_points", "quasi_random_points", "random_points"]


def random_points(space: Space, n: int, seed: int = 0, *, start: int = 0) -> list[Point]:
    """Sample independent points, uniform (or log-uniform) in each dimension.

    Each dimension has its own random stream, so adding a dimension does not change the values of the others.

    Args:
        space: the search space.
        n: number of points.
        seed: seed of the random streams.
        start: number of the first point.

    >>> space = Space.of({"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}})
    >>> random_points(space, 3, seed=1)[1:] == random_points(space, 2, seed=1, start=1)
    True
    """
    return [
        space.point({dimension.key: _uniform(seed, dimension.key, number) for dimension in space})
        for number in range(start, start + n)
    ]


def _uniform(seed: int, name: str, number: int) -> float:
    """A uniform number in [0, 1) with the 53 bits of a float64 significand."""
    return (key(seed, f"search {name}", number) >> 10) / 2**53


def quasi_random_points(space: Space, n: int, seed: int = 0, *, start: int = 0) -> list[Point]:
    """Sample points of a scrambled Sobol sequence, which cover the space more evenly than independent ones.

    The first 2^k points have exactly one coordinate in each of 2^k equal intervals of every dimension.

    Args:
        space: the search space.
        n: number of points.
        seed: seed of the scrambling.
        start: number of the first point.

    >>> space = Space.of({"model.dropout": {"uniform": [0.0, 1.0]}})
    >>> sorted(int(4 * point["model.dropout"]) for point in quasi_random_points(space, 4, seed=3))
    [0, 1, 2, 3]

    Source: Owen, "Randomly permuted (t,m,s)-nets and (t,s)-sequences", 1995; :class:`torch.quasirandom.SobolEngine`.
    """
    engine = SobolEngine(len(space), scramble=True, seed=key(seed, "search sobol") >> 31)
    engine.fast_forward(start)
    samples = engine.draw(n, dtype=torch.float64).tolist()
    return [space.point(dict(zip(space.keys, coordinates, strict=True))) for coordinates in samples]


def grid_points(space: Space, n: int) -> list[Point]:
    """Return all points of the largest balanced grid with at most ``n`` points.

    All choices are included. Ranges get as many levels as fit, added to one range after the other, and include both
    ends. Points that differ only in inactive dimensions are merged.

    Args:
        space: the search space.
        n: maximum number of points.

    Raises:
        UserError: the choices and the requested ``levels`` alone make more than ``n`` points.

    >>> space = Space.of({"optimizer.name": ["sgd", "adamw"], "model.dropout": {"uniform": [0.0, 0.5]}})
    >>> [point["model.dropout"] for point in grid_points(space, 7)]
    [0.0, 0.25, 0.5, 0.0, 0.25, 0.5]
    """
    levels = {dimension.key: _initial_levels(dimension) for dimension in space}
    smallest = _grid_size(space, levels, n)
    if smallest > n:
        raise UserError(
            f"the smallest grid has {smallest if smallest < 10**6 else 'more than a million'} points, but trials is "
            f"{n}; increase it ({option('--trials', 'trials=')}) or remove choices"
        )
    growing = [dimension for dimension in space if dimension.kind != "choices" and dimension.levels is None]
    while growing:
        # Refine the dimension with the fewest levels, until the grid would become too large.
        dimension = min(growing, key=lambda one: levels[one.key])
        finer = levels | {dimension.key: levels[dimension.key] + 1}
        if finer[dimension.key] > dimension.size or _grid_size(space, finer, n) > n:
            growing.remove(dimension)
        else:
            levels = finer
    return _product(space, levels)


def _initial_levels(dimension: Dimension) -> int:
    if dimension.kind == "choices":
        return len(dimension.options)
    return int(min(dimension.levels or 1, dimension.size))


def _grid_size(space: Space, levels: Mapping[str, int], limit: int) -> int:
    """The number of grid points. The points are enumerated only if conditions may merge some of them."""
    product = math.prod(levels.values())
    if product <= limit or not any(dimension.when for dimension in space) or product > 10**6:
        return product
    return len(_product(space, levels))


def _product(space: Space, levels: Mapping[str, int]) -> list[Point]:
    return combinations(space, [dimension.grid(levels[dimension.key]) for dimension in space])
