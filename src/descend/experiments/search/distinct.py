"""Distinct points of a search space: a configuration is tried once, and a small space is tried completely."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence

from descend.experiments.search.dimension import Dimension, to_plain
from descend.experiments.search.space import Point, Space
from descend.rng import key

__all__ = ["all_points", "combinations", "distinct_points", "point_name", "untried"]

Sample = Callable[[int, int], Sequence[Point]]
"""Returns n points of a sequence from a number on: (n, number of the first) -> points."""

_MOST_POINTS = 100_000
"""Larger finite spaces are not enumerated; independent samples of that many points rarely repeat."""

_BLOCK = 64


def point_name(point: Point) -> str:
    """Return a string that is equal for equal configurations.

    >>> point_name({"b": (1, 2), "a": 0.5})
    '{"a": 0.5, "b": [1, 2]}'
    """
    return json.dumps(to_plain(point), sort_keys=True, default=repr)


def all_points(space: Space, most: int = _MOST_POINTS) -> list[Point] | None:
    """Return every point of a space without real intervals; None if there are more than ``most``, or infinitely many.

    Points that differ only in inactive dimensions are one.

    >>> space = Space.of({"optimizer.name": ["sgd", "adam"], "model.hidden": [[8], [16], [32]]})
    >>> len(all_points(space))
    6
    """
    if math.prod(dimension.size for dimension in space) > most:
        return None
    return combinations(space, [_values(dimension) for dimension in space])


def combinations(space: Space, values: Sequence[Sequence[object]]) -> list[Point]:
    """Return the points of all combinations of values, one list for each dimension, without repetitions.

    >>> combinations(Space.of({"optimizer.name": ["sgd", "adam"], "model.dropout": [0.0, 0.1]}), [["sgd"], [0.0, 0.1]])
    [{'optimizer.name': 'sgd', 'model.dropout': 0.0}, {'optimizer.name': 'sgd', 'model.dropout': 0.1}]
    """
    points: dict[str, Point] = {}
    for combination in itertools.product(*values):
        point: Point = {}
        for dimension, value in zip(space, combination, strict=True):
            if space.is_active(dimension, point):
                point[dimension.key] = value
        points.setdefault(point_name(point), point)
    return list(points.values())


def _values(dimension: Dimension) -> list[object]:
    if dimension.kind == "choices":
        return list(dimension.options)
    if dimension.is_integer:
        return list(range(int(dimension.low), int(dimension.high) + 1))
    return [dimension.low]  # an interval of one number


def distinct_points(space: Space, sample: Sample, seed: int, repeats: int = 64) -> Iterator[Point]:
    """Yield the points of a sequence without repetitions, each at its first occurrence.

    If the space is finite, and ``repeats`` points in a row have occurred before, the remaining points follow in a random
    order. The result is a function of the space, the sequence and the seed, so a longer search begins with the points
    of a shorter one.

    Args:
        space: the search space.
        sample: the sequence.
        seed: seed of the order of the remaining points.
        repeats: number of repetitions in a row after which the remaining points of a finite space are enumerated.
    """
    finite = all_points(space)
    seen: set[str] = set()
    number, repeated = 0, 0
    while finite is None or repeated < repeats:
        for point in sample(_BLOCK, number):
            name = point_name(point)
            repeated = repeated + 1 if name in seen else 0
            if name not in seen:
                seen.add(name)
                yield point
            if finite is not None and (repeated >= repeats or len(seen) == len(finite)):
                break
        if finite is not None and len(seen) == len(finite):
            return
        number += _BLOCK
    order = sorted(range(len(finite)), key=lambda at: key(seed, "search remaining", at))
    yield from (finite[at] for at in order if point_name(finite[at]) not in seen)


def untried(points: Iterator[Point], tried: set[str]) -> Point | None:
    """Return the first point that is not in ``tried``, a set of :func:`point_name`; None if there is none."""
    return next((point for point in points if point_name(point) not in tried), None)
