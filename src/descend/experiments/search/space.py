"""A search space: which keys of the recipe vary, over which values, and under which conditions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from descend.errors import Problem, RecipeError, UserError, did_you_mean
from descend.experiments.search.dimension import KINDS, Dimension, dimension_of
from descend.recipe.toml import dump, parse

__all__ = ["Point", "Space", "SpaceError", "as_space"]

Point = dict[str, Any]
"""One configuration: values by ``section.key``, of the dimensions that count there and no others."""


class SpaceError(RecipeError):
    """Every problem of a space at once, in ``problems``; ``rest`` are the dimensions without one."""

    def __init__(self, problems: Sequence[Problem], rest: Sequence[Dimension] = ()) -> None:
        super().__init__(problems, "space")
        self.rest = tuple(rest)


@dataclass(frozen=True)
class Space:
    """The dimensions of a search; a dimension comes after those that its conditions name.

    >>> space = Space.of({
    ...     "optimizer": {
    ...         "name": ["sgd", "adamw"],
    ...         "momentum": {"uniform": [0.5, 0.99], "when": {"optimizer.name": "sgd"}},
    ...     },
    ... })
    >>> space.point({"optimizer.name": 0.2, "optimizer.momentum": 0.0})
    {'optimizer.name': 'sgd', 'optimizer.momentum': 0.5}
    >>> space.point({"optimizer.name": 0.7, "optimizer.momentum": 0.0})
    {'optimizer.name': 'adamw'}
    """

    dimensions: tuple[Dimension, ...]

    @classmethod
    def of(cls, said: Mapping[str, Any], *, source: str = "space") -> Space:
        """A space from nested tables, as its file has them, or from ``{"section.key": ...}``.

        Raises:
            SpaceError: every fault at once.
        """
        problems: list[Problem] = []
        faulty: set[str] = set()

        def complain(key: str, message: str) -> None:
            section, _, rest = key.partition(".")
            problems.append(Problem(section, rest or None, message, source=source))
            faulty.add(key)

        found: dict[str, Dimension] = {}
        for key, value in _entries(said):
            made, faults = dimension_of(key, value)
            if key in found:
                faults.append("is said more than once")
            for fault in faults:
                complain(key, fault)
            if made is not None:
                found[key] = made
        if not found and not problems:
            raise UserError(
                f"{source}: it varies nothing; say at least one key, such as "
                "optimizer.lr = { log_uniform = [1e-4, 1e-1] }"
            )
        known = [key for key, _ in _entries(said)]
        for dimension in found.values():
            for condition in dimension.when:
                other = found.get(condition.key)
                if condition.key not in known:
                    hint = did_you_mean(condition.key, known)
                    complain(dimension.key, f"when: the space does not vary '{condition.key}'; {hint}")
                elif other is not None:
                    for value in condition.values:
                        if not other.holds(value):
                            complain(dimension.key, f"when: '{condition.key}' never is {value!r}")
        order = _ordered(found, complain)
        if problems:
            rest: list[Dimension] = []
            for key in order:
                needed = {condition.key for condition in found[key].when}
                if key not in faulty and needed <= {each.key for each in rest}:
                    rest.append(found[key])
            raise SpaceError(problems, rest)
        return cls(tuple(found[key] for key in order))

    @classmethod
    def loads(cls, text: str, *, source: str = "space") -> Space:
        """A space from TOML text.

        >>> Space.loads("optimizer.lr = { log_uniform = [1e-4, 1e-1] }").keys
        ('optimizer.lr',)
        """
        try:
            said = parse(text)
        except UserError as cause:
            raise UserError(f"{source}: {cause}") from cause
        return cls.of(said, source=source)

    @classmethod
    def load(cls, path: str | Path) -> Space:
        """A space from a TOML file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"no such space file: {path}") from None
        except (OSError, UnicodeDecodeError) as cause:
            raise UserError(f"cannot read the space {path}: {cause}") from cause
        return cls.loads(text, source=str(path))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that vary."""
        return tuple(dimension.key for dimension in self.dimensions)

    def __getitem__(self, key: str) -> Dimension:
        return next(each for each in self.dimensions if each.key == key)

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def counts(self, dimension: Dimension, point: Mapping[str, Any]) -> bool:
        """Whether a dimension counts where the ones before it have these values."""
        return all(
            condition.key in point
            and any(
                type(value) is type(point[condition.key]) and value == point[condition.key]
                for value in condition.values
            )
            for condition in dimension.when
        )

    def point(self, shares: Mapping[str, float]) -> Point:
        """The configuration at a place of the unit cube."""
        found: Point = {}
        for dimension in self.dimensions:
            if self.counts(dimension, found):
                found[dimension.key] = dimension.at(shares[dimension.key])
        return found

    def fixed(self, key: str, value: Any) -> Point:
        """A configuration with one value given: conditions it needs hold, everything else is at its first value."""
        needed: Point = {key: value}
        waiting = [self[key]]
        while waiting:
            for condition in waiting.pop().when:
                needed.setdefault(condition.key, condition.values[0])
                waiting.append(self[condition.key])
        found: Point = {}
        for dimension in self.dimensions:
            if self.counts(dimension, found):
                found[dimension.key] = needed.get(dimension.key, dimension.corners()[0])
        return found

    def asked(self) -> dict[str, dict[str, Any]]:
        """It as plain values, by key."""
        return {dimension.key: dimension.asked() for dimension in self.dimensions}

    def to_toml(self) -> str:
        """The text of a space file.

        >>> print(Space.of({"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}}).to_toml())
        [optimizer]
        lr = { log_uniform = [0.0001, 0.1] }
        <BLANKLINE>
        """
        sections: dict[str, dict[str, Any]] = {}
        for key, said in self.asked().items():
            section, _, rest = key.partition(".")
            place = sections.setdefault(section, {})
            *outer, last = rest.split(".")
            for name in outer:
                place = place.setdefault(name, {})
            place[last] = said
        return dump(sections, {})


def as_space(space: Space | Mapping[str, Any] | str | Path) -> Space:
    """A space from whatever stands for one: a mapping, or a TOML file."""
    if isinstance(space, Space):
        return space
    if isinstance(space, str | Path):
        return Space.load(space)
    if not isinstance(space, Mapping):
        raise UserError(f"a space is a Space, a mapping or a file; found a {type(space).__name__}")
    return Space.of(space)


def _entries(said: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Keys and what is said of them; a table without a kind of range in it holds keys of its own."""
    for key, value in said.items():
        path = f"{before}{key}"
        if isinstance(value, Mapping) and _is_table(value):
            yield from _entries(value, f"{path}.")
        elif "." not in path and isinstance(value, list | tuple):
            yield f"{path}.name", value
        else:
            yield path, value


def _is_table(value: Mapping[Any, Any]) -> bool:
    words = (*KINDS, "when", "levels")
    inner = [item for item in value.values() if isinstance(item, Mapping | list | tuple)]
    # {"unifrom": [0, 1]} is a slip in a range and no table of keys: its only value is a pair of numbers.
    slip = len(value) == 1 and all(
        isinstance(item, list | tuple) and len(item) == 2 and did_you_mean(str(key), KINDS).startswith("did")
        for key, item in value.items()
    )
    return bool(value) and not slip and not any(key in words for key in value) and len(inner) == len(value)


def _ordered(found: Mapping[str, Dimension], complain: Any) -> list[str]:
    """Keys, each after those that it depends on, else in the order in which they were said."""
    waits = {
        key: {each.key for each in dimension.when if each.key in found} for key, dimension in found.items()
    }
    sorter = TopologicalSorter(waits)
    try:
        sorter.prepare()
    except CycleError as cycle:
        circle = " -> ".join(cycle.args[1])
        complain(cycle.args[1][0], f"when: the conditions wait for each other: {circle}")
        return list(found)
    order: list[str] = []
    while len(order) < len(found):
        order.append(next(key for key in found if key not in order and waits[key] <= set(order)))
    return order
