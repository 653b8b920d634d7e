"""One dimension of a search space: a key of the recipe and the values it may take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from descend.errors import did_you_mean

__all__ = ["KINDS", "Condition", "Dimension", "Kind", "dimension_of", "plain"]

Kind = Literal["uniform", "log_uniform", "integers", "log_integers", "choices"]
KINDS: tuple[Kind, ...] = ("uniform", "log_uniform", "integers", "log_integers", "choices")

_NEAREST = 2**53
"""Whole numbers up to here are told apart by float64."""


@dataclass(frozen=True)
class Condition:
    """A dimension counts only where another one, ``key``, has one of these values."""

    key: str
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Dimension:
    """A key of the recipe and the values it may take.

    Args:
        key: ``section.key`` of the recipe.
        kind: "uniform" and "log_uniform" are real numbers from ``low`` to ``high``, spread evenly, or evenly in
            their logarithm; "integers" and "log_integers" whole numbers with both ends; "choices" any values.
        low: the smallest number.
        high: the largest number.
        options: the values of "choices".
        when: conditions, all of which must hold.
        levels: how many values a grid takes of it; None leaves it to the number of trials.

    >>> rate = Dimension("optimizer.lr", "log_uniform", 1e-4, 1e-2)
    >>> [round(rate.at(share), 6) for share in (0.0, 0.5, 1.0)]
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
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return self.kind in ("integers", "log_integers")

    @property
    def log(self) -> bool:
        """Whether the values are spread evenly in their logarithm."""
        return self.kind in ("log_uniform", "log_integers")

    @property
    def count(self) -> float:
        """How many values there are; infinite for real numbers that differ."""
        if self.kind == "choices":
            return len(self.options)
        if self.whole:
            return self.high - self.low + 1
        return math.inf if self.high > self.low else 1

    def at(self, share: float) -> Any:
        """The value at a share in [0, 1] of the way from the first to the last.

        Whole numbers and choices get stretches of equal length (of equal length of logarithms), so that a uniform
        share gives each its due.
        """
        if self.kind == "choices":
            return self.options[min(int(share * len(self.options)), len(self.options) - 1)]
        # Whole numbers own half a unit on either side of them.
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            value = low + share * (high - low)
        if self.whole:
            return int(min(max(math.floor(value + 0.5), self.low), self.high))
        return min(max(value, self.low), self.high)

    def share(self, value: Any) -> float:
        """Where a value stands in [0, 1], the inverse of :meth:`at`; the middle of its stretch where it has one."""
        if self.kind == "choices":
            return (self.place(value) + 0.5) / len(self.options)
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if high == low:
            return 0.5
        if self.log:
            return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return float((value - low) / (high - low))

    def place(self, value: Any) -> int:
        """The place of a value among the choices."""
        return next(place for place, option in enumerate(self.options) if _same(option, value))

    def holds(self, value: Any) -> bool:
        """Whether a value is one of its own."""
        if self.kind == "choices":
            return any(_same(option, value) for option in self.options)
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high

    def grid(self, levels: int) -> list[Any]:
        """So many values, evenly spread with both ends; the middle for one. Choices are given whole.

        >>> Dimension("model.dropout", "uniform", 0.0, 0.5).grid(3)
        [0.0, 0.25, 0.5]
        """
        if self.kind == "choices":
            return list(self.options)
        if levels == 1:
            return [self.at(0.5)]
        found = []
        for level in range(levels):
            share = level / (levels - 1)
            if self.log:
                value = math.exp(math.log(self.low) + share * (math.log(self.high) - math.log(self.low)))
            else:
                value = self.low + share * (self.high - self.low)
            value = min(max(value, self.low), self.high)
            found.append(math.floor(value + 0.5) if self.whole else value)
        return list(dict.fromkeys(found))

    def corners(self) -> list[Any]:
        """Values that show whether all of it can be used: both ends, or every choice."""
        if self.kind == "choices":
            return list(self.options)
        ends = [int(self.low), int(self.high)] if self.whole else [self.low, self.high]
        return list(dict.fromkeys(ends))

    def asked(self) -> dict[str, Any]:
        """It as a space file says it, without its key."""
        said: dict[str, Any] = {
            self.kind: plain(self.options) if self.kind == "choices" else self.corners_as_range()
        }
        if self.levels is not None:
            said["levels"] = self.levels
        if self.when:
            said["when"] = {each.key: plain(each.values) for each in self.when}
        return said

    def corners_as_range(self) -> list[float]:
        """Both ends, also where they are equal."""
        return [int(self.low), int(self.high)] if self.whole else [self.low, self.high]


def plain(value: Any) -> Any:
    """A value with lists in place of tuples, as JSON and TOML hold it."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.item() if hasattr(value, "item") else value


def _same(one: Any, other: Any) -> bool:
    return type(plain(one)) is type(plain(other)) and plain(one) == plain(other)


def dimension_of(key: str, said: Any) -> tuple[Dimension | None, list[str]]:
    """A dimension from what a space says of a key, and what is wrong with it.

    >>> dimension_of("model.dropout", {"uniform": [0.0, 0.5]})[0].at(0.5)
    0.25
    >>> dimension_of("optimizer.lr", {"log_uniform": [0, 1]})[1]
    ['log_uniform runs from 0 to 1, and a logarithm needs numbers above 0']
    """
    if isinstance(said, list | tuple):
        said = {"choices": said}
    if not isinstance(said, Mapping):
        return None, [
            f"expected a list of choices, or a table such as {{ uniform = [0.0, 0.5] }}; found {said!r}"
        ]
    kinds = [word for word in said if word in KINDS]
    odd = [str(word) for word in said if word not in (*KINDS, "when", "levels")]
    faults = [f"'{word}' is no kind of range; {did_you_mean(word, KINDS)}" for word in odd]
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        return None, [*faults, f"expected one of {', '.join(KINDS)}; found {found}"]
    kind: Kind = kinds[0]
    when, wrong = _conditions(said.get("when", {}))
    faults += wrong
    levels = said.get("levels")
    if levels is not None and (
        isinstance(levels, bool) or not isinstance(levels, int) or levels < 1 or kind == "choices"
    ):
        faults.append(f"levels is a whole number >= 1 for ranges of numbers, found {levels!r}")
    if kind == "choices":
        options, wrong = _options(said[kind])
        faults += wrong
        made = Dimension(key, kind, options=options, when=when)
    else:
        ends, wrong = _ends(kind, said[kind])
        faults += wrong
        made = Dimension(key, kind, *ends, when=when, levels=levels)
    return (None if faults else made), faults


def _conditions(said: Any) -> tuple[tuple[Condition, ...], list[str]]:
    if not isinstance(said, Mapping):
        return (), [f'when is a table such as {{ "optimizer.name" = ["sgd"] }}, found {said!r}']
    found, faults = [], []
    for key, values in _flat(said):
        listed = tuple(values) if isinstance(values, list | tuple) else (values,)
        if not listed:
            faults.append(f"when.{key}: no value would do")
        found.append(Condition(key, listed))
    return tuple(found), faults


def _flat(said: Mapping[Any, Any], before: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in said.items():
        path = f"{before}{key}"
        pairs += _flat(value, f"{path}.") if isinstance(value, Mapping) else [(path, value)]
    return pairs


def _options(said: Any) -> tuple[tuple[Any, ...], list[str]]:
    if not isinstance(said, list | tuple):
        return (), [f"choices is a list, found {said!r}"]
    if not said:
        return (), ["choices is empty: there is nothing to choose from"]
    twice = [
        repr(plain(value))
        for place, value in enumerate(said)
        if any(_same(value, other) for other in said[:place])
    ]
    return tuple(said), [f"choices holds {', '.join(twice)} more than once"] if twice else []


def _ends(kind: Kind, said: Any) -> tuple[tuple[float, float], list[str]]:
    nothing = (0.0, 0.0)
    if not isinstance(said, list | tuple) or len(said) != 2:
        return nothing, [f"{kind} is a list of two numbers, the smallest and the largest; found {said!r}"]
    for end in said:
        if isinstance(end, bool) or not isinstance(end, int | float):
            return nothing, [f"{kind} is a list of two numbers, found {end!r} among them"]
        if isinstance(end, float) and not math.isfinite(end):
            return nothing, [f"{kind} must end at finite numbers, found {end}"]
        if kind in ("integers", "log_integers") and (not float(end).is_integer() or abs(end) > _NEAREST):
            return nothing, [f"{kind} runs between whole numbers, found {end}"]
    low, high = said
    if low > high:
        return nothing, [f"{kind} is empty: it runs from {low} to {high}; the smaller number comes first"]
    if kind in ("log_uniform", "log_integers") and low <= 0:
        return nothing, [f"{kind} runs from {low} to {high}, and a logarithm needs numbers above 0"]
    return (float(low), float(high)), []
