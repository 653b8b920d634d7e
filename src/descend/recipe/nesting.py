"""Keys in the form ``"section.key"`` as nested sections."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from descend.constraints import CONDITIONS
from descend.errors import Problem, RecipeError
from descend.recipe.catalogue import CHOICES
from descend.recipe.sections import SECTIONS
from descend.recipe.specs import misplaced_spec, plain_values

__all__ = ["NOTHING", "merged", "nested"]

NOTHING: Mapping[str, Any] = MappingProxyType({})
"""A section in which nothing is specified."""


def nested(sections: Mapping[str, Any], *, source: str = "") -> dict[str, Any]:
    """Return sections in which every ``"section.key"`` has become a key of its section; nothing else is checked.

    Args:
        sections: section name to its keys, or ``"section.key"`` to a value, or both.
        source: the name of the place that they come from, for messages.

    Raises:
        RecipeError: a key has two different values.

    >>> nested({"optimizer": "sgd", "optimizer.lr": 0.1, "data.columns.sex": "categorical"})
    {'optimizer': {'name': 'sgd', 'lr': 0.1}, 'data': {'columns': {'sex': 'categorical'}}}
    """
    changed = {
        section
        for section, dot, _ in (key.partition(".") for key in sections if isinstance(key, str))
        if dot and section in SECTIONS
    }
    within = {key: value for key, value in sections.items() if str(key).partition(".")[0] in changed}
    return {key: value for key, value in sections.items() if key not in within} | merged({}, within, source)


def merged(
    before: Mapping[str, Mapping[str, Any]], changes: Mapping[str, Any], source: str
) -> dict[str, dict[str, Any]]:
    """Return the sections that changes affect, with the changed values; they are not checked yet.

    Args:
        before: the sections as they are.
        changes: values by ``"section.key"``, or ``"section.table.key"``, or mappings of keys by ``"section"``; a bare
            name of a section is its method.
        source: the name of the place that the changes come from, for messages.

    Raises:
        RecipeError: a key has two different values, or is within a value that is no table.
    """
    problems = [
        Problem(repr(path), None, "the name of a section must be a string", source=source)
        for path in changes
        if not isinstance(path, str)
    ]
    if problems:
        raise RecipeError(problems)
    _refuse_contradictions(changes, source)
    result: dict[str, dict[str, Any]] = {}
    # A table before the keys within it, in whatever order they were specified.
    for path, value in sorted(changes.items(), key=lambda item: min(item[0].count("."), 2)):
        section, dot, key = path.partition(".")
        if section in SECTIONS:
            result.setdefault(section, dict(before.get(section, NOTHING)))
        elif section and dot:
            result[path] = {}  # reported by its whole name
            continue
        misplaced = None if dot else misplaced_spec(value, section)
        if misplaced:
            problems.append(Problem(section, None, misplaced, source=source))
            continue
        value = plain_values(value)
        if not dot and isinstance(value, Mapping):
            result.setdefault(section, {}).update(value)
        elif not dot:
            result.setdefault(section, {})["name"] = value
        elif "." in key:
            outer, _, inner = key.partition(".")
            table = result.setdefault(section, {}).get(outer, {})
            if (section, outer) in CHOICES and isinstance(table, str):
                table = {"name": table}
            elif section == "constrain" and (isinstance(table, (str, list, tuple)) or callable(table)):
                table = {"function" if outer in CONDITIONS else "pattern": table}
            if isinstance(table, Mapping):
                result[section][outer] = {**table, inner: value}
            else:
                problems.append(Problem(section, key, f"{outer} is not a table of keys", source=source))
        elif not key or not section:
            problems.append(Problem(section, key, "expected section.key", source=source))
        else:
            result.setdefault(section, {})[key] = value
    if problems:
        raise RecipeError(problems)
    return result


_ABSENT: Any = object()


def _refuse_contradictions(changes: Mapping[str, Any], source: str) -> None:
    """Refuse values that differ for one key, such as one in its section and another as ``"section.key"``.

    Raises:
        RecipeError: lists all such keys.
    """
    problems = []
    for path, value in changes.items():
        section, *keys = path.split(".", 2)
        own = plain_values(value)
        for length in range(len(keys)):
            outer = ".".join([section, *keys[:length]])
            found = _at(changes[outer], keys[length:]) if outer in changes else _ABSENT
            if found is not _ABSENT and not _same(found, own):
                message = f"specified twice, as {found!r} in {outer!r} and as {own!r} in {path!r}"
                problems.append(Problem(section, ".".join(keys), message, "keep one of them", source))
    if problems:
        raise RecipeError(problems)


def _at(value: Any, keys: list[str]) -> Any:
    """Return the value at the end of a path through nested tables; a bare name is the table of its ``name``."""
    for key in keys:
        value = plain_values(value)
        table = value if isinstance(value, Mapping) else {"name": value}
        if key not in table:
            return _ABSENT
        value = table[key]
    return plain_values(value)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return list(first) == list(second)
    return first is second or bool(first == second)
