"""Validation of a recipe against the constructors that it names: all problems at once, before any work."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import torch

from descend.arguments import kind_of
from descend.constraints import CONDITIONS
from descend.errors import Problem, RecipeError, UserError, closest, did_you_mean, message_of
from descend.interface import option
from descend.losses.likelihoods import Normal
from descend.optim import WRAPPERS
from descend.param_types import MISSING, Parameter, check, of_constructor, signature_of
from descend.process import exclusive
from descend.recipe.catalogue import (
    CATALOGUE,
    CHOICES,
    KEYS,
    Constructor,
    find,
    import_object,
    is_import_path,
)
from descend.recipe.sections import SECTIONS, Section, any_parameters, choice_parameters, section_parameters
from descend.recipe.specs import misplaced_spec, plain_values

__all__ = ["refusal_of", "section_of", "validated"]


def validated(
    given: Mapping[Any, Any], *, source: str = "", allow_imports: bool = True
) -> dict[str, dict[str, Any]]:
    """Return the sections with every value checked and converted to its parameter's type.

    Raises:
        RecipeError: lists all unknown sections, keys and names, wrong types and ranges, and settings that a constructor
            itself refuses.
    """
    problems: list[Problem] = []
    result: dict[str, dict[str, Any]] = {}
    for name, values in given.items():
        if not isinstance(name, str):
            problems.append(
                Problem(repr(name), None, "the name of a section must be a string", source=source)
            )
            continue
        if name not in SECTIONS:
            problems.append(_unknown_section(name, values, source))
            continue
        section = SECTIONS[name]
        misplaced = misplaced_spec(values, name)
        if misplaced:
            problems.append(Problem(name, None, misplaced, source=source))
            continue
        with suppress(RecursionError):  # a value nested too deeply is reported with its key
            values = plain_values(values)
        if section.named and (isinstance(values, str) or callable(values)):
            values = {"name": values}
        if not isinstance(values, Mapping):
            problems.append(Problem(name, None, f"expected a table of keys, got {values!r}", source=source))
            continue
        result[name] = _section(section, dict(values), source, allow_imports, problems)
    if problems:
        raise RecipeError(problems)
    return result


def _unknown_section(name: str, value: object, source: str) -> Problem:
    """A name that is no section, but may be the key of one."""
    first, dot, key = name.partition(".")
    close = closest(first, SECTIONS) if dot else None
    if close is not None:
        return Problem(name, None, "no such section", f"did you mean '{close}.{key}'?", source)
    if dot and (section := section_of(first)) is not None:
        return Problem(name, None, "no such section", f"did you mean '{section}.{first}'?", source)
    hint = did_you_mean(name, SECTIONS)
    if isinstance(value, Mapping) or hint.startswith("did"):
        return Problem(name, None, "no such section", hint, source)
    section = section_of(name)
    hint = f"did you mean [{section}] {name}?" if section else f"sections are {', '.join(sorted(SECTIONS))}"
    return Problem(name, None, "expected a section, or a key within its section", hint, source)


def section_of(key: str) -> str | None:
    """Return the first section that has a key, or else one of whose methods has it, or None.

    >>> section_of("patience"), section_of("lr"), section_of("learning_rate")
    ('stop', 'optimizer', None)
    """
    own = (name for name, section in SECTIONS.items() if key in (section_parameters(section) or {}))
    return next(own, next((name for name, section in SECTIONS.items() if _takes(section, key)), None))


def _takes(section: Section, key: str) -> bool:
    return key in (any_parameters(section) or {})


def _section(
    section: Section, values: dict[Any, Any], source: str, allow_imports: bool, problems: list[Problem]
) -> dict[str, Any]:
    before = len(problems)

    def report(key: str | None, message: str, hint: str = "") -> None:
        problems.append(Problem(section.name, key, message, hint, source))

    name: str | Constructor = "auto"
    unknown_constructor = False
    parameters: dict[str, Parameter] | None = None
    if section.named and "name" in values:
        name = values["name"]
        message = _name_problem(section.name, "name", name, allow_imports)
        if message:
            report("name", *message)
            # The keys of an import path that was not imported are unknown.
            unknown_constructor = isinstance(name, str) and is_import_path(name)
            name = "auto"
    if not unknown_constructor:
        parameters = any_parameters(section) if name == "auto" else section_parameters(section, name)
    own = section_parameters(section) or {}
    known = own if parameters is None else parameters
    in_catalogue = name == "auto" or name in CATALOGUE.get(section.name, {})
    result: dict[str, Any] = {}
    for key, value in values.items():
        if key == "name" and section.named:
            result[key] = value
        elif not isinstance(key, str):
            report(repr(key), "a key must be a string")
        elif parameters is None and key not in own:  # the constructor takes any key
            result[key], fault = check(Parameter(key, Any, MISSING, section.name), value)
            if fault:
                report(key, fault)
        elif key not in known:
            hint = did_you_mean(key, [*known, *(["name"] if section.named else [])])
            outer, dot, inner = key.partition(".")
            if dot and outer in known and not hint.startswith(f"did you mean '{key.replace('.', '_')}'"):
                hint = f"nest it, {outer!r}: {{{inner!r}: ...}}, or use '{section.name}.{key}' at the top"
            owner = _owner_of(key, section.name)
            report(
                key,
                "unknown key" + (f" of '{name}'" if isinstance(name, str) and name != "auto" else ""),
                f"[{owner}] has a key of that name"
                if owner and not hint.startswith(("did", "nest"))
                else hint,
            )
        elif section.name == "constrain" and key in CONDITIONS and value not in (None, "none"):
            result[key] = _condition(key, value, allow_imports, report)
        elif section.name == "stop" and key in ("monitor", "metrics"):
            result[key] = _metrics(key, value, allow_imports, report)
        else:
            checked, fault = check(known[key], value)
            # The argument "activation" of a network from an import path may mean anything.
            if (section.name, key) == ("data", "augment") and checked in ("choose", "none"):
                checked = checked if checked == "choose" else ()
            elif fault is None and (section.name, key) in CHOICES and (in_catalogue or key in own):
                checked = _choice(section.name, key, checked, allow_imports, report)
            elif fault is None and section.name == "optimizer" and key in WRAPPERS:
                checked = _wrapper(key, checked, report)
            elif fault is None and section.name == "constrain" and checked is not None:
                checked = _constrained(key, checked, report)
            if fault:
                report(key, fault)
            result[key] = checked
    if len(problems) == before and section.named and name != "auto" and parameters is not None:
        refusal = _refusal(section, find(section.name, name), result)
        if refusal:
            report(None, refusal)
    return result


def _choice(section: str, key: str, value: Any, allow_imports: bool, report: Callable[..., None]) -> Any:
    """Check a name of a family, a table of a name and its settings, or a list of these."""
    if isinstance(value, tuple):
        return tuple(_choice(section, key, each, allow_imports, report) for each in value)
    table = {"name": value} if isinstance(value, str) else value
    if (isinstance(value, str) and value == "auto") or not isinstance(table, Mapping):
        return value
    if "name" not in table:
        report(key, "expected a name, or a table with the key 'name'")
        return value
    name = table["name"]
    problem = _name_problem(section, key, name, allow_imports)
    if problem:
        report(key, *problem)
        return value
    if name == "auto":
        report(key, "settings need the name of their method, not 'auto'")
        return value
    result = _table(key, table, "name", name, find(section, name, key), report)
    return value if isinstance(value, str) else result


def _table(
    key: str,
    table: Mapping[str, Any],
    subject: str,
    name: str | Constructor,
    constructor: Constructor,
    report: Callable[..., None],
) -> dict[str, Any]:
    """Check a table of settings of a constructor; its key ``subject`` holds the method or what it is applied to."""
    settings = choice_parameters(constructor)
    if settings is None:
        return dict(table)
    result: dict[str, Any] = {subject: table[subject]}
    for each, value in table.items():
        if each != subject and each not in settings:
            report(
                f"{key}.{each}",
                f"unknown key of '{name}'",
                did_you_mean(str(each), settings) or "it has no settings",
            )
        elif each != subject:
            result[each], fault = check(settings[each], value)
            if fault:
                report(f"{key}.{each}", fault)
    return result


def _constrained(key: str, value: Any, report: Callable[..., None]) -> Any:
    """Check which weights a constraint applies to: a pattern, several, or a table with these and settings."""
    pattern = value.get("pattern") if isinstance(value, Mapping) else value
    several = isinstance(pattern, (list, tuple)) and all(isinstance(each, str) for each in pattern)
    if not isinstance(pattern, str) and not (several and pattern):
        report(
            key,
            "expected a pattern of weights' names, a list of patterns, or a table with the key 'pattern'",
            'such as "linear*"',
        )
        return value
    if isinstance(value, Mapping):
        return _table(key, value, "pattern", key, KEYS["constrain"][key], report)
    return value


def _wrapper(key: str, value: Any, report: Callable[..., None]) -> Any:
    """Check a wrapper of the optimizer: its first setting, or a table of its settings."""
    settings = choice_parameters(WRAPPERS[key]) or {}
    if not isinstance(value, Mapping):
        return value
    result = dict(value)
    for each, given in value.items():
        if each not in settings:
            report(f"{key}.{each}", f"unknown key of '{key}'", did_you_mean(str(each), settings))
        else:
            result[each], fault = check(settings[each], given)
            if fault:
                report(f"{key}.{each}", fault)
    return result


def _condition(key: str, value: Any, allow_imports: bool, report: Callable[..., None]) -> Any:
    """Check the functions of a general condition: a function or its import path, several, or a table with these."""
    functions = value.get("function") if isinstance(value, Mapping) else value
    several = list(functions) if isinstance(functions, (list, tuple)) else [functions]
    if not several or not all(callable(each) or isinstance(each, str) for each in several):
        report(
            key,
            "expected a function of the network, a list of functions, or a table with the key 'function'",
            'such as "package.module:function"',
        )
        return value
    for each in several:
        if isinstance(each, str):
            problem = _path_problem(each, allow_imports)
            if problem:
                report(key, *problem)
                return value
    functions = tuple(functions) if isinstance(functions, list) else functions
    if isinstance(value, Mapping):
        return _table(key, {**value, "function": functions}, "function", key, CONDITIONS[key], report)
    return functions


def _metrics(key: str, value: Any, allow_imports: bool, report: Callable[..., None]) -> Any:
    """Check a metric, or a list of them: a name, a function or its import path, or a table with a function."""
    if key == "metrics":
        if value in (None, "none"):
            return ()
        several = list(value) if isinstance(value, (list, tuple)) else [value]
        return tuple(_metric(key, each, allow_imports, report) for each in several)
    return _metric(key, value, allow_imports, report)


def _metric(key: str, value: Any, allow_imports: bool, report: Callable[..., None]) -> Any:
    table = value if isinstance(value, Mapping) else {"function": value}
    function = table.get("function")
    if not isinstance(function, str) and not callable(function):
        got = "a table without the key 'function'" if isinstance(value, Mapping) else repr(value)
        report(
            key, f"expected the name of a metric, a function or its import path, got {got}", 'such as "f1"'
        )
        return value
    for each in table:
        if each not in ("function", "better", "takes", "name"):
            report(f"{key}.{each}", "unknown key", "the keys are function, better, takes and name")
        elif each != "function" and not isinstance(table[each], str):
            report(f"{key}.{each}", f"expected a string, got {table[each]!r}")
    if isinstance(function, str) and is_import_path(function):
        problem = _path_problem(function, allow_imports)
        if problem:
            report(key, *problem)
    return dict(value) if isinstance(value, Mapping) else value


def _path_problem(path: str, allow_imports: bool) -> tuple[str, str] | None:
    if not is_import_path(path):
        return f"'{path}' is not an import path", 'name a function as "package.module:function"'
    if not allow_imports:
        return (
            f"'{path}' is an import path, and importing runs its code",
            f"allow it with {option('--allow-imports', 'allow_imports=True')}",
        )
    try:
        subject = import_object(path)
    except UserError as cause:
        message, _, hint = str(cause).partition("; ")
        return message, hint
    return None if callable(subject) else (f"'{path}' is {kind_of(subject)}, not a function", "")


def _name_problem(section: str, key: str, name: Any, allow_imports: bool) -> tuple[str, str] | None:
    if isinstance(name, str) and name == "auto":
        return None
    if callable(name):
        try:
            find(section, name, key)
        except UserError as cause:
            return str(cause), ""
        return None
    if not isinstance(name, str):
        return f"expected a name, got {name!r}", ""
    family = CATALOGUE[section] if key == "name" else CHOICES[section, key]
    if name not in family and is_import_path(name) and not allow_imports:
        return (
            f"'{name}' is an import path, and importing runs its code",
            f"allow it with {option('--allow-imports', 'allow_imports=True')}",
        )
    try:
        find(section, name, key)
    except UserError as cause:
        message, _, hint = str(cause).partition("; ")
        return message, hint
    return None


def _owner_of(key: str, excluded: str) -> str | None:
    """Return another section that has a key."""
    for name, section in SECTIONS.items():
        if name != excluded and key in any_parameters(section):
            return name
    return None


def _stand_ins(names: Iterable[str]) -> dict[str, Any]:
    """Return small stand-ins for the arguments that a builder supplies, to try a constructor's settings on."""
    wanted = set(names)
    stand_ins: dict[str, Any] = {"likelihood": Normal(), "steps_per_epoch": 10, "total_steps": 100}
    if "model" in wanted:
        # skip_init uses no random numbers.
        stand_ins["model"] = torch.nn.utils.skip_init(torch.nn.Linear, 2, 2, bias=False)
        torch.nn.init.zeros_(stand_ins["model"].weight)
        stand_ins["params"] = list(stand_ins["model"].parameters())
    else:
        stand_ins["params"] = [torch.nn.Parameter(torch.zeros(2, 2))]
    return {name: stand_in for name, stand_in in stand_ins.items() if name in wanted}


def _refusal(section: Section, constructor: Constructor, values: Mapping[str, Any]) -> str | None:
    """Return the error of the constructor itself, from calling it on stand-ins, or None."""
    if section.name == "model" or section.name not in CATALOGUE:
        return None
    signature = signature_of(constructor)
    if signature is None or "optimizer" in signature.parameters:
        return None
    context = _stand_ins(signature.parameters)
    own = of_constructor(constructor, section.context) or {}
    arguments = {key: value for key, value in values.items() if key in own}
    try:
        with exclusive(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are shown when the recipe is built
            constructor(**context, **arguments)
    except Exception as cause:  # anyone's constructor may raise anything
        return refusal_of(section.name, cause)
    return None


def refusal_of(section: str, cause: Exception) -> str:
    """Return the message of a constructor that refuses its arguments, and for a loss without one what a loss is."""
    if section == "loss" and isinstance(cause, TypeError) and " missing " in str(cause):
        return (
            f"{message_of(cause)}; a loss is a function of outputs and targets, or a class or function that returns one, "
            "whose arguments are keys of the section"
        )
    return message_of(cause)
