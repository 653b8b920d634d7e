"""One dimension of a search space: a key of the recipe and its range of values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from descend.errors import did_you_mean

__all__ = ["KINDS", "Condition", "Dimension", "Kind", "parse_dimension", "to_plain"]

Kind = Literal["uniform", "log_uniform", "integers", "log_integers", "choices"]
KINDS: tuple[Kind, ...] = ("uniform", "log_uniform", "integers", "log_integers", "choices")

_MAX_EXACT_INTEGER = 2**53
"""Integers up to this magnitude are exact in float64."""


@dataclass(frozen=True)
class Condition:
    """A dimension is active only where another one, ``key``, has one of ``values``."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Dimension:
    """A key of the recipe and its range of values.

    Args:
        key: ``section.key`` of the recipe.
        kind: "uniform" and "log_uniform" are real numbers from ``low`` to ``high``, uniform or log-uniform; "integers"
            and "log_integers" are integers including both ends; "choices" are arbitrary values.
        low: smallest number.
        high: largest number.
        options: the values of "choices".
        when: conditions, all of which must hold.
        levels: number of values in a grid; None lets the number of trials decide.

    >>> lr = Dimension("optimizer.lr", "log_uniform", 1e-4, 1e-2)
    >>> [round(lr.from_unit(u), 6) for u in (0.0, 0.5, 1.0)]
    [0.0001, 0.001, 0.01]
    """

    key: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    options: tuple[Any, ...] = ()
    when: tuple[Condition, ...] = ()
    levels: int | None = None

    @property
    def is_integer(self) -> bool:
        """Whether the values are integers."""
        return self.kind in ("integers", "log_integers")

    @property
    def is_log(self) -> bool:
        """Whether the values are uniform in their logarithm."""
        return self.kind in ("log_uniform", "log_integers")

    @property
    def size(self) -> float:
        """Number of values; infinite for an interval of real numbers."""
        if self.kind == "choices":
            return len(self.options)
        if self.is_integer:
            return self.high - self.low + 1
        return math.inf if self.high > self.low else 1

    def from_unit(self, u: float) -> Any:
        """Map a coordinate in [0, 1] to a value.

        Integers and choices own intervals of equal length (of equal log length for "log_integers"), so that a uniform
        coordinate gives each the right probability.
        """
        if self.kind == "choices":
            return self.options[min(int(u * len(self.options)), len(self.options) - 1)]
        # An integer owns half a unit on either side.
        low, high = (self.low - 0.5, self.high + 0.5) if self.is_integer else (self.low, self.high)
        if self.is_log:
            value = math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
        else:
            value = low + u * (high - low)
        if self.is_integer:
            return int(min(max(math.floor(value + 0.5), self.low), self.high))
        return min(max(value, self.low), self.high)

    def to_unit(self, value: Any) -> float:
        """Map a value to its coordinate in [0, 1], the inverse of :meth:`from_unit`.

        A value that owns an interval (an integer, a choice) maps to a point inside it.
        """
        if self.kind == "choices":
            return (self.index_of(value) + 0.5) / len(self.options)
        low, high = (self.low - 0.5, self.high + 0.5) if self.is_integer else (self.low, self.high)
        if high == low:
            return 0.5
        if self.is_log:
            # Neighboring floats share their logarithm.
            width = math.log(high) - math.log(low)
            return (math.log(value) - math.log(low)) / width if width else 0.5
        return float((value - low) / (high - low))

    def index_of(self, value: Any) -> int:
        """Index of a value among the choices."""
        return next(index for index, option in enumerate(self.options) if _same(option, value))

    def contains(self, value: Any) -> bool:
        """Whether a value lies in the dimension."""
        if self.kind == "choices":
            return any(_same(option, value) for option in self.options)
        if isinstance(value, bool) or not isinstance(value, int if self.is_integer else int | float):
            return False
        return self.low <= value <= self.high

    def grid(self, levels: int) -> list[Any]:
        """Return ``levels`` evenly spaced values including both ends, or the middle for one level; all choices.

        >>> Dimension("model.dropout", "uniform", 0.0, 0.5).grid(3)
        [0.0, 0.25, 0.5]
        """
        if self.kind == "choices":
            return list(self.options)
        if levels == 1:
            return [self.from_unit(0.5)]
        values = []
        for level in range(levels):
            fraction = level / (levels - 1)
            if self.is_log:
                value = math.exp(math.log(self.low) + fraction * (math.log(self.high) - math.log(self.low)))
            else:
                value = self.low + fraction * (self.high - self.low)
            value = min(max(value, self.low), self.high)
            values.append(math.floor(value + 0.5) if self.is_integer else value)
        return list(dict.fromkeys(values))

    def probe_values(self) -> list[Any]:
        """Values whose validity implies that of the whole dimension: both ends of a range, or every choice."""
        return list(self.options) if self.kind == "choices" else list(dict.fromkeys(self.bounds()))

    def bounds(self) -> list[float]:
        """Both ends of a range, as integers for integer kinds."""
        return [int(self.low), int(self.high)] if self.is_integer else [self.low, self.high]

    def to_dict(self) -> dict[str, Any]:
        """Return the table that a space file holds for this key."""
        table: dict[str, Any] = {
            self.kind: to_plain(self.options) if self.kind == "choices" else self.bounds()
        }
        if self.levels is not None:
            table["levels"] = self.levels
        if self.when:
            table["when"] = {condition.key: to_plain(condition.values) for condition in self.when}
        return table


def to_plain(value: Any) -> Any:
    """Convert tuples to lists and NumPy scalars to Python numbers, as JSON and TOML need them."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _same(one: Any, other: Any) -> bool:
    return type(to_plain(one)) is type(to_plain(other)) and to_plain(one) == to_plain(other)


def parse_dimension(key: str, entry: Any) -> tuple[Dimension | None, list[str]]:
    """Parse the entry of one key in a space.

    Args:
        key: ``section.key`` of the recipe.
        entry: a list of choices, or a table such as ``{"uniform": [0.0, 0.5]}``.

    Returns:
        The dimension (None if the entry is invalid), and a message for each problem.

    >>> parse_dimension("model.dropout", {"uniform": [0.0, 0.5]})[0].from_unit(0.5)
    0.25
    >>> parse_dimension("optimizer.lr", {"log_uniform": [0, 1]})[1]
    ['log_uniform runs from 0 to 1, but the bounds of a logarithmic range must be positive']
    """
    if isinstance(entry, list | tuple):
        entry = {"choices": entry}
    if not isinstance(entry, Mapping):
        return None, [
            f"expected a list of choices, or a table such as {{ uniform = [0.0, 0.5] }}; got {entry!r}"
        ]
    kinds = [word for word in entry if word in KINDS]
    unknown = [str(word) for word in entry if word not in (*KINDS, "when", "levels")]
    problems = [f"'{word}' is not a kind of range; {did_you_mean(word, KINDS)}" for word in unknown]
    if len(kinds) != 1:
        given = " and ".join(kinds) or "none"
        return None, [*problems, f"expected exactly one of {', '.join(KINDS)}; got {given}"]
    kind: Kind = kinds[0]
    when, condition_problems = _parse_conditions(entry.get("when", {}))
    problems += condition_problems
    levels = entry.get("levels")
    if levels is not None and (
        isinstance(levels, bool) or not isinstance(levels, int) or levels < 1 or kind == "choices"
    ):
        problems.append(f"levels: expected an integer >= 1, and a range of numbers; got {levels!r}")
    if kind == "choices":
        options, value_problems = _parse_choices(entry[kind])
        dimension = Dimension(key, kind, options=options, when=when)
    else:
        bounds, value_problems = _parse_bounds(kind, entry[kind])
        dimension = Dimension(key, kind, *bounds, when=when, levels=levels)
    problems += value_problems
    return (None if problems else dimension), problems


def _parse_conditions(entry: Any) -> tuple[tuple[Condition, ...], list[str]]:
    if not isinstance(entry, Mapping):
        return (), [f'when: expected a table such as {{ "optimizer.name" = ["sgd"] }}, got {entry!r}']
    conditions, problems = [], []
    for key, values in _flatten(entry):
        accepted = tuple(values) if isinstance(values, list | tuple) else (values,)
        if not accepted:
            problems.append(f"when.{key}: the list of values is empty, so the condition never holds")
        conditions.append(Condition(key, accepted))
    return tuple(conditions), problems


def _flatten(table: Mapping[Any, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        path = f"{prefix}{key}"
        pairs += _flatten(value, f"{path}.") if isinstance(value, Mapping) else [(path, value)]
    return pairs


def _parse_choices(values: Any) -> tuple[tuple[Any, ...], list[str]]:
    if not isinstance(values, list | tuple):
        return (), [f"choices: expected a list, got {values!r}"]
    if not values:
        return (), ["choices is empty: expected at least one value"]
    repeated = [
        repr(to_plain(value))
        for index, value in enumerate(values)
        if any(_same(value, other) for other in values[:index])
    ]
    return tuple(values), [f"choices contains {', '.join(repeated)} more than once"] if repeated else []


def _parse_bounds(kind: Kind, values: Any) -> tuple[tuple[float, float], list[str]]:
    invalid = (0.0, 0.0)
    if not isinstance(values, list | tuple) or len(values) != 2:
        return invalid, [
            f"{kind}: expected a list of two numbers, the smallest and the largest; got {values!r}"
        ]
    for bound in values:
        if isinstance(bound, bool) or not isinstance(bound, int | float):
            return invalid, [f"{kind}: expected a list of two numbers, got {bound!r} in it"]
        if isinstance(bound, float) and not math.isfinite(bound):
            return invalid, [f"{kind}: expected finite bounds, got {bound}"]
        if kind in ("integers", "log_integers") and (
            not float(bound).is_integer() or abs(bound) > _MAX_EXACT_INTEGER
        ):
            return invalid, [f"{kind}: expected integer bounds, got {bound}"]
    low, high = values
    if low > high:
        return invalid, [f"{kind} is empty: it runs from {low} to {high}; put the smaller number first"]
    if kind in ("log_uniform", "log_integers") and low <= 0:
        return invalid, [
            f"{kind} runs from {low} to {high}, but the bounds of a logarithmic range must be positive"
        ]
    return (float(low), float(high)), []
