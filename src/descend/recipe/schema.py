"""The JSON Schema of a recipe (draft 2020-12), for editors of TOML and for other programs.

It is derived from the catalogue and from the dataclasses of the sections: names, keys, types, domains, defaults and
descriptions. A recipe in TOML that is valid satisfies it. It cannot express everything that a recipe is checked for:
whether an import path exists, and what a constructor refuses although each value is in its domain.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Literal

import annotated_types

from descend.constraints import CONDITIONS
from descend.optim import WRAPPERS
from descend.param_types import MISSING, Parameter
from descend.recipe.catalogue import CATALOGUE, CHOICES, KEYS
from descend.recipe.docstrings import about_arguments, summary_of
from descend.recipe.sections import SECTIONS, Section, any_parameters, choice_parameters, section_parameters
from descend.recipe.toml import toml_value

__all__ = ["json_schema"]

Schema = dict[str, Any]

_IMPORT_PATH: Schema = {"$ref": "#/$defs/import_path"}

_NONE: Schema = {"const": "none"}


def json_schema() -> Schema:
    """Return the JSON Schema of a recipe.

    >>> schema = json_schema()
    >>> schema["properties"]["stop"]["properties"]["max_seconds"]["anyOf"]
    [{'type': 'number', 'exclusiveMinimum': 0}, {'const': 'none'}]
    """
    definitions: Schema = {
        "import_path": {
            "description": "A class or function by its import path, package.module:name or package.module.name.",
            "type": "string",
            "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*[.:][A-Za-z_]\w*(\.[A-Za-z_]\w*)*$",
        }
    }
    for (section, key), family in CHOICES.items():
        definitions[f"{section}.{key}"] = _method_choice(family)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "descend recipe",
        "description": "How a network is trained: a section for each design choice. Every key is optional.",
        "type": "object",
        "properties": {name: _section(section) for name, section in SECTIONS.items()},
        "additionalProperties": False,
        "$defs": definitions,
    }


_METRIC: Schema = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {key: {"type": "string"} for key in ("function", "better", "takes", "name")},
            "required": ["function"],
            "additionalProperties": False,
        },
    ]
}
"""A metric: its name, the import path of a function, or a table of a function and what it declares."""


def _section(section: Section) -> Schema:
    about = section.about[0].upper() + section.about[1:] + "."
    own = section_parameters(section) or {}
    own_about = about_arguments(section.settings) if section.settings else {}
    if not section.named:
        return {"description": about} | _table(section.name, own, own_about)
    family = CATALOGUE[section.name]
    every_about = own_about
    tables = []
    for name, constructor in family.items():
        method_about = about_arguments(constructor)
        every_about = method_about | every_about
        parameters = section_parameters(section, name)
        keys = _keys(section.name, parameters or {}, own_about | method_about)
        tables.append(_named(name, constructor, keys, closed=parameters is not None))
    auto = {"const": "auto", "default": "auto", "description": "The default recipe chooses a method."}
    left_open = _table(section.name, any_parameters(section), every_about, name=auto)
    elsewhere = _elsewhere(_keys(section.name, own, own_about))
    table = {"type": "object", "oneOf": [left_open, *tables, elsewhere]}
    return {"description": about, "anyOf": [{"enum": ["auto", *family]}, _IMPORT_PATH, table]}


def _method_choice(family: Mapping[str, Callable[..., Any]]) -> Schema:
    """A method by name, or, where any of the family has settings, a table of its name and settings."""
    names = [{"enum": ["auto", *family]}, _IMPORT_PATH]
    if not any(choice_parameters(constructor) for constructor in family.values()):
        return {"anyOf": names}
    tables = []
    for name, constructor in family.items():
        parameters = choice_parameters(constructor)
        keys = _keys("", parameters or {}, about_arguments(constructor))
        tables.append(_named(name, constructor, keys, closed=parameters is not None))
    return {"anyOf": [*names, {"type": "object", "oneOf": [*tables, _elsewhere({})]}]}


def _named(name: str, constructor: Callable[..., Any], keys: Schema, *, closed: bool) -> Schema:
    """The table of one method of the catalogue, recognized by its constant ``name``."""
    constant = {"const": name, "description": summary_of(constructor)}
    others = {"additionalProperties": False} if closed else {}
    return {"title": name, "properties": {"name": constant, **keys}, "required": ["name"], **others}


def _elsewhere(keys: Schema) -> Schema:
    """The table of a class or function that an import path names; its other keys are not known."""
    return {"title": "import path", "properties": {"name": _IMPORT_PATH, **keys}, "required": ["name"]}


def _table(
    section: str, parameters: Mapping[str, Parameter], about: Mapping[str, str], *, name: Schema | None = None
) -> Schema:
    first = {} if name is None else {"name": name}
    return {
        "type": "object",
        "properties": {**first, **_keys(section, parameters, about)},
        "additionalProperties": False,
    }


def _keys(section: str, parameters: Mapping[str, Parameter], about: Mapping[str, str]) -> Schema:
    return {key: _key(section, parameter, about.get(key, "")) for key, parameter in parameters.items()}


def _key(section: str, parameter: Parameter, about: str) -> Schema:
    if (section, parameter.name) in CHOICES:
        schema = _choice(parameter.annotation, f"{section}.{parameter.name}")
    elif section == "constrain":
        schema = _constraint(parameter.name)
    elif section == "optimizer" and parameter.name in WRAPPERS:
        schema = _wrapper(parameter.name)
    elif (section, parameter.name) == ("stop", "monitor"):
        schema = _METRIC
    elif (section, parameter.name) == ("stop", "metrics"):
        schema = {"anyOf": [*_METRIC["anyOf"], {"type": "array", "items": _METRIC}, _NONE]}
    else:
        schema = _type(parameter.annotation)
    described = {"description": about} if about else {}
    default = {} if parameter.default is MISSING else {"default": toml_value(parameter.default)}
    return {**described, **schema, **default}


def _choice(annotation: Any, definition: str) -> Schema:
    """A key whose value names a method, or a list of these where its type has one."""
    one: Schema = {"$ref": f"#/$defs/{definition}"}
    if any(typing.get_origin(part) is tuple for part in _parts(annotation)):
        return {"anyOf": [one, {"type": "array", "items": one}]}
    return one


def _wrapper(key: str) -> Schema:
    """A wrapper of the optimizer, which takes its first setting, of which 0 is none, or a table of settings."""
    constructor = WRAPPERS[key]
    settings = choice_parameters(constructor) or {}
    table = {
        "type": "object",
        "properties": _keys("", settings, about_arguments(constructor)),
        "additionalProperties": False,
    }
    number = "number" if key == "sam" else "integer"
    return {"anyOf": [{"type": number, "minimum": 0}, table, _NONE]}


def _constraint(key: str) -> Schema:
    """A constraint, which takes patterns of weights' names, or a condition, which takes functions."""
    constructor = KEYS["constrain"][key]
    inner, one = ("function", _IMPORT_PATH) if key in CONDITIONS else ("pattern", {"type": "string"})
    subject = {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}
    table = {
        "type": "object",
        "properties": {
            inner: subject,
            **_keys("", choice_parameters(constructor) or {}, about_arguments(constructor)),
        },
        "required": [inner],
        "additionalProperties": False,
    }
    return {"anyOf": [*subject["anyOf"], table, _NONE]}


def _parts(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _is_mapping(annotation: Any) -> bool:
    origin = typing.get_origin(annotation)
    return inspect.isclass(origin) and issubclass(origin, Mapping)


def _type(annotation: Any) -> Schema:
    """The schema of a type. Functions and classes have no form in TOML but their import paths, which are strings."""
    parts = [
        part
        for part in _parts(annotation)
        if typing.get_origin(part) is not typing.get_origin(Callable[..., Any])
    ]
    schemas = [_NONE if part is type(None) else _one_type(part) for part in parts]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas} if schemas else {}


def _one_type(part: Any) -> Schema:
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if origin in (typing.Union, types.UnionType):
        return _type(part)
    if origin is typing.Annotated:
        schema = _type(arguments[0])
        for mark in arguments[1:]:
            schema |= _bound(mark)
        return schema
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments[-1] is Ellipsis:
        return {"type": "array", "items": _type(arguments[0])}
    if origin is tuple:
        items = [_type(each) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if _is_mapping(part):
        return {"type": "object", "additionalProperties": _type(arguments[1])}
    names = {bool: "boolean", int: "integer", float: "number", str: "string"}
    return {"type": names[part]} if part in names else {}


def _bound(mark: Any) -> Schema:
    match mark:
        case annotated_types.Gt(limit):
            return {"exclusiveMinimum": limit}
        case annotated_types.Ge(limit):
            return {"minimum": limit}
        case annotated_types.Lt(limit):
            return {"exclusiveMaximum": limit}
        case annotated_types.Le(limit):
            return {"maximum": limit}
    return {}
