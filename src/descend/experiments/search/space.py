"""The search space: dimensions, the conditions between them, and the TOML file that holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from descend.arguments import kind_of
from descend.errors import Problem, RecipeError, UserError, did_you_mean
from descend.experiments.search.dimension import KINDS, Dimension, parse_dimension
from descend.recipe.toml import dump, parse

__all__ = ["Point", "Space", "SpaceError", "as_space"]

Point = dict[str, Any]
"""One configuration: the values of the active dimensions, by ``section.key``."""


class SpaceError(RecipeError):
    """Every problem of a space, in ``problems``; ``valid_dimensions`` holds the dimensions without one."""

    def __init__(self, problems: Sequence[Problem], valid_dimensions: Sequence[Dimension] = ()) -> None:
        super().__init__(problems, "space")
        self.valid_dimensions = tuple(valid_dimensions)


@dataclass(frozen=True)
class Space:
    """A search space over keys of the recipe.

    A dimension with conditions (``when``) is active only where they hold; inactive dimensions have no value. Usually
    built by :meth:`of` or :meth:`load`.

    Args:
        dimensions: the dimensions, each after those that its conditions refer to.

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
    def of(cls, entries: Mapping[str, Any], *, source: str = "space") -> Space:
        """Parse nested tables, as in a space file, or a flat ``{"section.key": ...}``.

        Args:
            entries: for each key a list of choices or a table with a range.
            source: name of the space in error messages.

        Raises:
            SpaceError: some entries are invalid; all problems at once.
            UserError: the space is empty.
        """
        problems: list[Problem] = []
        invalid: set[str] = set()

        def add_problem(key: str, message: str) -> None:
            section, _, rest = key.partition(".")
            problems.append(Problem(section, rest or None, message, source=source))
            invalid.add(key)

        dimensions: dict[str, Dimension] = {}
        for key, entry in _entries(entries):
            dimension, messages = parse_dimension(key, entry)
            if key in dimensions:
                messages.append("is defined more than once")
            for message in messages:
                add_problem(key, message)
            if dimension is not None:
                dimensions[key] = dimension
        if not dimensions and not problems:
            raise UserError(
                f"{source}: the space is empty; it needs at least one key, such as "
                "optimizer.lr = { log_uniform = [1e-4, 1e-1] }"
            )
        known = [key for key, _ in _entries(entries)]
        for dimension in dimensions.values():
            for condition in dimension.when:
                parent = dimensions.get(condition.key)
                if condition.key not in known:
                    hint = did_you_mean(condition.key, known)
                    add_problem(dimension.key, f"when: '{condition.key}' is not in the space; {hint}")
                elif parent is not None:
                    for value in condition.values:
                        if not parent.contains(value):
                            message = f"when: '{condition.key}' cannot have the value {value!r}"
                            add_problem(dimension.key, message)
        order = _topological_order(dimensions, add_problem)
        if problems:
            valid: list[Dimension] = []
            for key in order:
                parents = {condition.key for condition in dimensions[key].when}
                if key not in invalid and parents <= {each.key for each in valid}:
                    valid.append(dimensions[key])
            raise SpaceError(problems, valid)
        return cls(tuple(dimensions[key] for key in order))

    @classmethod
    def loads(cls, text: str, *, source: str = "space") -> Space:
        """Parse a space from TOML.

        >>> Space.loads("optimizer.lr = { log_uniform = [1e-4, 1e-1] }").keys
        ('optimizer.lr',)
        """
        try:
            entries = parse(text)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        return cls.of(entries, source=source)

    @classmethod
    def load(cls, path: str | Path) -> Space:
        """Read a space from a TOML file."""
        try:
            text = Path(path).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UserError(f"space file not found: {path}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"cannot read the space file {path}: {error}") from error
        return cls.loads(text, source=str(path))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all dimensions."""
        return tuple(dimension.key for dimension in self.dimensions)

    def __getitem__(self, key: str) -> Dimension:
        return next(dimension for dimension in self.dimensions if dimension.key == key)

    def __iter__(self) -> Iterator[Dimension]:
        return iter(self.dimensions)

    def __len__(self) -> int:
        return len(self.dimensions)

    def is_active(self, dimension: Dimension, point: Mapping[str, Any]) -> bool:
        """Whether a dimension is active, given the values of the dimensions before it."""
        return all(
            condition.key in point
            and any(
                type(value) is type(point[condition.key]) and value == point[condition.key]
                for value in condition.values
            )
            for condition in dimension.when
        )

    def point(self, coordinates: Mapping[str, float]) -> Point:
        """Return the configuration at coordinates in the unit cube, by key."""
        point: Point = {}
        for dimension in self.dimensions:
            if self.is_active(dimension, point):
                point[dimension.key] = dimension.from_unit(coordinates[dimension.key])
        return point

    def point_with(self, key: str, value: Any) -> Point:
        """Return a configuration with a given value of one key.

        The conditions that make the key active are met; every other dimension has its first value.
        """
        required: Point = {key: value}
        pending = [self[key]]
        while pending:
            for condition in pending.pop().when:
                required.setdefault(condition.key, condition.values[0])
                pending.append(self[condition.key])
        point: Point = {}
        for dimension in self.dimensions:
            if self.is_active(dimension, point):
                point[dimension.key] = required.get(dimension.key, dimension.probe_values()[0])
        return point

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Return the entries as plain values, by key; :meth:`of` reads them."""
        return {dimension.key: dimension.to_dict() for dimension in self.dimensions}

    def to_toml(self) -> str:
        """Return the text of a space file.

        >>> print(Space.of({"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}}).to_toml())
        [optimizer]
        lr = { log_uniform = [0.0001, 0.1] }
        <BLANKLINE>
        """
        sections: dict[str, dict[str, Any]] = {}
        for key, entry in self.to_dict().items():
            section, _, rest = key.partition(".")
            table = sections.setdefault(section, {})
            *outer, last = rest.split(".")
            for name in outer:
                table = table.setdefault(name, {})
            table[last] = entry
        return dump(sections, {})


def as_space(space: Space | Mapping[str, Any] | str | Path) -> Space:
    """Convert a mapping or the path of a TOML file to a :class:`Space`."""
    if isinstance(space, Space):
        return space
    if isinstance(space, str | Path):
        return Space.load(space)
    if not isinstance(space, Mapping):
        raise UserError(f"space: expected a Space, a mapping or a file, got {kind_of(space)}")
    return Space.of(space)


def _entries(table: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield full keys with their entries; a table that is not a range holds keys of its own."""
    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, Mapping) and _is_section(value):
            yield from _entries(value, f"{path}.")
        elif "." not in path and isinstance(value, list | tuple):
            yield f"{path}.name", value
        else:
            yield path, value


def _is_section(table: Mapping[Any, Any]) -> bool:
    """Whether a table holds further keys, rather than the range of one key."""
    reserved = (*KINDS, "when", "levels")
    containers = [item for item in table.values() if isinstance(item, Mapping | list | tuple)]
    # {"unifrom": [0, 1]} is a misspelled range and not a section: its only value is a pair of numbers.
    misspelled = len(table) == 1 and all(
        isinstance(item, list | tuple) and len(item) == 2 and did_you_mean(str(key), KINDS).startswith("did")
        for key, item in table.items()
    )
    return (
        bool(table)
        and not misspelled
        and not any(key in reserved for key in table)
        and len(containers) == len(table)
    )


def _topological_order(
    dimensions: Mapping[str, Dimension], add_problem: Callable[[str, str], None]
) -> list[str]:
    """Order keys so that each follows those it depends on, otherwise as given."""
    parents = {
        key: {condition.key for condition in dimension.when if condition.key in dimensions}
        for key, dimension in dimensions.items()
    }
    sorter = TopologicalSorter(parents)
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = error.args[1]
        add_problem(cycle[0], f"when: the conditions form a cycle: {' -> '.join(cycle)}")
        return list(dimensions)
    order: list[str] = []
    while len(order) < len(dimensions):
        order.append(next(key for key in dimensions if key not in order and parents[key] <= set(order)))
    return order
