"""Checking a recipe against the constructors it names: all problems at once, before any work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Annotated, Any, get_origin

import torch

from descend.constraints import CONDITIONS
from descend.errors import Problem, RecipeError, UserError, did_you_mean, message_of
from descend.losses.likelihoods import Normal
from descend.param_types import MISSING, Parameter, check, of_constructor, signature_of
from descend.recipe.catalogue import (
    CATALOGUE,
    CHOICES,
    KEYS,
    Constructor,
    find,
    import_object,
    is_import_path,
)
from descend.recipe.sections import SECTIONS, Section, section_parameters

__all__ = ["validated"]


def validated(
    given: Mapping[Any, Any], *, source: str = "", allow_imports: bool = True
) -> dict[str, dict[str, Any]]:
    """The sections with every value checked and in its parameter's type.

    Raises:
        RecipeError: unknown sections, keys and names, wrong types and ranges, and settings that a
            constructor itself refuses, all together.
    """
    problems: list[Problem] = []
    result: dict[str, dict[str, Any]] = {}
    for name, values in given.items():
        if not isinstance(name, str):
            problems.append(Problem(repr(name), None, "the name of a section is a text", source=source))
            continue
        if name not in SECTIONS:
            problems.append(Problem(name, None, "no such section", did_you_mean(name, SECTIONS), source))
            continue
        section = SECTIONS[name]
        if section.named and (isinstance(values, str) or callable(values)):
            values = {"name": values}
        if not isinstance(values, Mapping):
            problems.append(Problem(name, None, f"expected a table of keys, found {values!r}", source=source))
            continue
        result[name] = _section(section, dict(values), source, allow_imports, problems)
    if problems:
        raise RecipeError(problems)
    return result


def _section(
    section: Section, values: dict[Any, Any], source: str, allow_imports: bool, problems: list[Problem]
) -> dict[str, Any]:
    before = len(problems)

    def complain(key: str | None, message: str, hint: str = "") -> None:
        problems.append(Problem(section.name, key, message, hint, source))

    name: str | Constructor = "auto"
    unseen = False
    parameters: dict[str, Parameter] | None = None
    if section.named and "name" in values:
        name = values["name"]
        message = _name_problem(section.name, "name", name, allow_imports)
        if message:
            complain("name", *message)
            unseen = isinstance(name, str) and is_import_path(name)  # its keys cannot be known either
            name = "auto"
    if not unseen:
        parameters = _any_parameters(section) if name == "auto" else section_parameters(section, name)
    own = section_parameters(section) or {}
    known = own if parameters is None else parameters
    ours = name == "auto" or name in CATALOGUE.get(section.name, {})
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key == "name" and section.named:
            result[key] = value
        elif not isinstance(key, str):
            complain(repr(key), "a key is a text")
        elif parameters is None and key not in own:  # of a constructor that takes any key
            result[key], fault = check(Parameter(key, Any, MISSING, section.name), value)
            if fault:
                complain(key, fault)
        elif key not in known:
            hint = did_you_mean(key, [*known, *(["name"] if section.named else [])])
            owner = _owner_of(key, section.name)
            complain(
                key,
                "unknown key" + (f" of '{name}'" if isinstance(name, str) and name != "auto" else ""),
                f"[{owner}] has one of that name" if owner and not hint.startswith("did") else hint,
            )
        elif section.name == "constrain" and key in CONDITIONS and value not in (None, "none"):
            result[key] = _condition(key, value, allow_imports, complain)
        else:
            checked, fault = check(known[key], value)
            # A network from elsewhere may call what it likes "activation".
            if fault is None and (section.name, key) in CHOICES and (ours or key in own):
                checked = _choice(section.name, key, checked, allow_imports, complain)
            elif fault is None and section.name == "constrain" and checked is not None:
                checked = _constrained(key, checked, complain)
            if fault:
                complain(key, fault)
            result[key] = checked
    if len(problems) == before and section.named and name != "auto" and parameters is not None:
        refusal = _refusal(section, find(section.name, name), result)
        if refusal:
            complain(None, refusal)
    return result


def _choice(section: str, key: str, value: Any, allow_imports: bool, complain: Callable[..., None]) -> Any:
    """A checked name of a family, or a table of a name and its settings, or a list of these."""
    if isinstance(value, tuple):
        return tuple(_choice(section, key, each, allow_imports, complain) for each in value)
    table = {"name": value} if isinstance(value, str) else value
    if (isinstance(value, str) and value == "auto") or not isinstance(table, Mapping):
        return value
    if "name" not in table:
        complain(key, "expected a name, or a table with the key 'name'")
        return value
    name = table["name"]
    problem = _name_problem(section, key, name, allow_imports)
    if problem:
        complain(key, *problem)
        return value
    if name == "auto":
        complain(key, "settings need the name of whose they are, and not 'auto'")
        return value
    result = _table(key, table, "name", name, find(section, name, key), complain)
    return value if isinstance(value, str) else result


def _table(
    key: str,
    table: Mapping[str, Any],
    first: str,
    name: str | Constructor,
    constructor: Constructor,
    complain: Callable[..., None],
) -> dict[str, Any]:
    """A table whose key ``first`` says what it is about, and whose others are settings of a constructor, checked."""
    found = of_constructor(constructor, ())
    if found is None:
        return dict(table)
    # Parameters without a default are the builder's.
    settings = {each: parameter for each, parameter in found.items() if parameter.default is not MISSING}
    result: dict[str, Any] = {first: table[first]}
    for each, said in table.items():
        if each != first and each not in settings:
            complain(
                f"{key}.{each}",
                f"unknown key of '{name}'",
                did_you_mean(str(each), settings) or "it has no settings",
            )
        elif each != first:
            result[each], fault = check(settings[each], said)
            if fault:
                complain(f"{key}.{each}", fault)
    return result


def _constrained(key: str, value: Any, complain: Callable[..., None]) -> Any:
    """What a constraint holds: a pattern, several, or a table with them and the constraint's settings."""
    pattern = value.get("pattern") if isinstance(value, Mapping) else value
    several = isinstance(pattern, (list, tuple)) and all(isinstance(each, str) for each in pattern)
    if not isinstance(pattern, str) and not (several and pattern):
        complain(
            key,
            "expected a pattern of weights' names, several, or a table with the key 'pattern'",
            'such as "linear*"',
        )
        return value
    if isinstance(value, Mapping):
        return _table(key, value, "pattern", key, KEYS["constrain"][key], complain)
    return value


def _condition(key: str, value: Any, allow_imports: bool, complain: Callable[..., None]) -> Any:
    """What a general condition is a function of: functions or their import paths, or a table with them and settings."""
    said = value.get("function") if isinstance(value, Mapping) else value
    several = list(said) if isinstance(said, (list, tuple)) else [said]
    if not several or not all(callable(each) or isinstance(each, str) for each in several):
        complain(
            key,
            "expected a function of the network, several, or a table with the key 'function'",
            'such as "package.module:function"',
        )
        return value
    for each in several:
        if isinstance(each, str):
            problem = _path_problem(each, allow_imports)
            if problem:
                complain(key, *problem)
                return value
    said = tuple(said) if isinstance(said, list) else said
    if isinstance(value, Mapping):
        return _table(key, {**value, "function": said}, "function", key, CONDITIONS[key], complain)
    return said


def _path_problem(path: str, allow_imports: bool) -> tuple[str, str] | None:
    if not is_import_path(path):
        return f"'{path}' is no import path", 'a function is named "package.module:function"'
    if not allow_imports:
        return (
            f"'{path}' is an import path, and importing runs its code",
            "allow it with --allow-imports (allow_imports=True)",
        )
    try:
        found = import_object(path)
    except UserError as cause:
        message, _, hint = str(cause).partition("; ")
        return message, hint
    return None if callable(found) else (f"'{path}' is a {type(found).__name__}, not a function", "")


def _name_problem(section: str, key: str, name: Any, allow_imports: bool) -> tuple[str, str] | None:
    if callable(name) or (isinstance(name, str) and name == "auto"):
        return None
    if not isinstance(name, str):
        return f"expected a name, found {name!r}", ""
    family = CATALOGUE[section] if key == "name" else CHOICES[section, key]
    if name not in family and is_import_path(name) and not allow_imports:
        return (
            f"'{name}' is an import path, and importing runs its code",
            "allow it with --allow-imports (allow_imports=True)",
        )
    try:
        find(section, name, key)
    except UserError as cause:
        message, _, hint = str(cause).partition("; ")
        return message, hint
    return None


def _any_parameters(section: Section) -> dict[str, Parameter]:
    """Keys of every name of the section: what may be said while the name is left to ``auto``."""
    found = section_parameters(section) or {}
    for name in CATALOGUE.get(section.name, {}):
        for key, parameter in (section_parameters(section, name) or {}).items():
            known = found.setdefault(key, parameter)
            # Methods may give a key other choices; where only the bounds of a number differ, the first ones are used.
            if known.annotation != parameter.annotation and get_origin(parameter.annotation) is not Annotated:
                found[key] = replace(known, annotation=known.annotation | parameter.annotation)
    return found


def _owner_of(key: str, besides: str) -> str | None:
    for name, section in SECTIONS.items():
        if name != besides and key in _any_parameters(section):
            return name
    return None


def _stand_ins(names: Iterable[str]) -> dict[str, Any]:
    """For what a builder gives a constructor under these names: something small to try its settings on."""
    wanted = set(names)
    found: dict[str, Any] = {"likelihood": Normal(), "steps_per_epoch": 10, "total_steps": 100}
    if "model" in wanted:
        found["model"] = torch.nn.utils.skip_init(torch.nn.Linear, 2, 2, bias=False)  # draws no random number
        torch.nn.init.zeros_(found["model"].weight)
        found["params"] = list(found["model"].parameters())
    else:
        found["params"] = [torch.nn.Parameter(torch.zeros(2, 2))]
    return {name: made for name, made in found.items() if name in wanted}


def _refusal(section: Section, constructor: Constructor, values: Mapping[str, Any]) -> str | None:
    """What the constructor itself says against its arguments, learned by building one on a stand-in."""
    if section.name == "model" or section.name not in CATALOGUE:
        return None
    signature = signature_of(constructor)
    if signature is None or "optimizer" in signature.parameters:
        return None
    context = _stand_ins(signature.parameters)
    own = of_constructor(constructor, section.context) or {}
    arguments = {key: value for key, value in values.items() if key in own}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it is built in earnest
            constructor(**context, **arguments)
    except Exception as cause:  # anyone's constructor may raise anything
        return message_of(cause)
    return None
