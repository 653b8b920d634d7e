"""A validator for the keywords of JSON Schema that the schema of recipes uses; it refuses any other keyword."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ANNOTATIONS = {"$schema", "$defs", "title", "description", "default"}

TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def satisfies(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """Whether a value satisfies a schema; ``root`` is where references lead.

    >>> satisfies(3, {"type": "integer", "minimum": 4}, {})
    False
    """
    return all(
        keyword in ANNOTATIONS or _holds(keyword, argument, value, schema, root)
        for keyword, argument in schema.items()
    )


def _holds(
    keyword: str, argument: Any, value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]
) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match keyword:
        case "$ref":
            *_, name = argument.split("/")
            return satisfies(value, root["$defs"][name], root)
        case "type":
            return isinstance(value, TYPES[argument]) and (
                argument == "boolean" or not isinstance(value, bool)
            )
        case "const":
            return type(value) is type(argument) and value == argument
        case "enum":
            return any(type(value) is type(each) and value == each for each in argument)
        case "anyOf":
            return any(satisfies(value, each, root) for each in argument)
        case "oneOf":
            return sum(satisfies(value, each, root) for each in argument) == 1
        case "properties":
            known = argument.keys() & value.keys() if isinstance(value, dict) else ()
            return all(satisfies(value[key], argument[key], root) for key in known)
        case "required":
            return not isinstance(value, dict) or set(argument) <= set(value)
        case "additionalProperties":
            others = value.keys() - schema.get("properties", {}).keys() if isinstance(value, dict) else ()
            return (
                not others
                if argument is False
                else all(satisfies(value[key], argument, root) for key in others)
            )
        case "items":
            return not isinstance(value, list) or all(satisfies(each, argument, root) for each in value)
        case "prefixItems":
            pairs = zip(argument, value, strict=False) if isinstance(value, list) else ()
            return all(satisfies(each, one, root) for one, each in pairs)
        case "minItems":
            return not isinstance(value, list) or len(value) >= argument
        case "maxItems":
            return not isinstance(value, list) or len(value) <= argument
        case "minimum":
            return not number or value >= argument
        case "exclusiveMinimum":
            return not number or value > argument
        case "maximum":
            return not number or value <= argument
        case "exclusiveMaximum":
            return not number or value < argument
        case "pattern":
            return not isinstance(value, str) or re.search(argument, value) is not None
    raise AssertionError(f"unknown keyword {keyword}")
