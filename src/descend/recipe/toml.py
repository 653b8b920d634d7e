"""Recipes in TOML, with comments at the ends of lines, and command-line assignments."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import tomli_w

from descend.errors import UserError

__all__ = ["dump", "parse", "parse_assignment", "parse_value", "path_of", "toml_value"]

_QUOTED = re.compile(r"""\s*(?P<table>\w+\.\w+\.)(?P<name>"(?:[^"\\]|\\.)*")\s*=(?P<value>.*)\Z""", re.DOTALL)
_BARE = re.compile(r"[A-Za-z_*?][\w.:/+*?-]*\Z")


def _short(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def path_of(value: Any) -> Any:
    """Return the import path of a class or function; any other value unchanged.

    >>> path_of(dict), path_of(3)
    ('builtins:dict', 3)
    """
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return f"{getattr(value, '__module__', '?')}:{name}"
    return value


def dump(sections: Mapping[str, Mapping[str, Any]], comments: Mapping[str, str]) -> str:
    """Return sections in TOML, one key per line, with comments. None, which TOML lacks, is written "none".

    >>> print(dump({"stop": {"patience": None, "max_epochs": 5}}, {"stop.patience": "never"}))
    [stop]
    patience = "none"  # never
    max_epochs = 5
    <BLANKLINE>
    """
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        for key, value in values.items():
            comment = " ".join(comments.get(f"{section}.{key}", "").split())
            lines.append(_line(key, value) + (f"  # {comment}" if comment else ""))
        lines.append("")
    return "\n".join(lines)


def _line(key: str, value: Any) -> str:
    shown = toml_value(value)
    if isinstance(shown, Mapping):
        inner = ", ".join(_line(name, item) for name, item in shown.items())
        return f"{_key(key)} = {{ {inner} }}" if inner else f"{_key(key)} = {{}}"
    if isinstance(shown, list):
        return f"{_key(key)} = [" + ", ".join(_line("v", item).removeprefix("v = ") for item in shown) + "]"
    return tomli_w.dumps({key: shown}).rstrip("\n")


def _key(key: str) -> str:
    return tomli_w.dumps({key: 0}).rpartition(" = ")[0]


def toml_value(value: Any) -> Any:
    """Return a value in the form that TOML holds: None as "none", a class or function as its import path.

    >>> toml_value((1, None, dict))
    [1, 'none', 'builtins:dict']
    """
    if value is None:
        return "none"
    if isinstance(value, Mapping):
        return {str(key): toml_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [toml_value(item) for item in value]
    return path_of(value)


_BRACKETS = {"[": "]", "{": "}"}


def _unquoted(name: str) -> str:
    try:
        return next(iter(tomllib.loads(f"{name} = 0")))
    except tomllib.TOMLDecodeError:
        raise UserError(f"{name} is not a quoted key of TOML") from None


def parse(text: str) -> dict[str, Any]:
    """Parse TOML into nested dicts.

    Raises:
        UserError: it is not valid TOML, is nested too deeply, or contains a number with thousands of digits.

    >>> parse("[stop]\\nmax_epochs = 5")
    {'stop': {'max_epochs': 5}}
    """
    try:
        return tomllib.loads(text)
    except ValueError as cause:  # also raised for integers with too many digits for Python
        raise UserError(f"not valid TOML: {cause}{_line_of(text, str(cause))}") from cause
    except RecursionError:
        raise UserError("not valid TOML: nested too deeply") from None


def _line_of(text: str, message: str) -> str:
    """Return the line that a message of the parser is about, and what a value without quotes needs."""
    place = re.search(r"\(at line (\d+), column (\d+)\)", message)
    if place is None:
        return ""
    line = text.splitlines()[int(place[1]) - 1].strip()
    shown = line if len(line) <= 60 else line[:57] + "..."
    name = re.fullmatch(r"([\w.-]+) *= *([A-Za-z][\w-]*)", line)
    return f": {shown}" + (f'; strings need quotes: {name[1]} = "{name[2]}"' if name else "")


def parse_assignment(text: str) -> tuple[str, Any]:
    """Parse ``section.key=value`` into the path and the value. The value is TOML; a bare word is a string.

    Raises:
        UserError: there is no ``=``, or the value is not TOML.

    >>> parse_assignment("optimizer.lr=1e-3"), parse_assignment("optimizer.name=sgd")
    (('optimizer.lr', 0.001), ('optimizer.name', 'sgd'))
    >>> parse_assignment("model.hidden=[64,64]")
    ('model.hidden', [64, 64])
    >>> parse_assignment('data.columns."size = m2"=ignore')
    ('data.columns.size = m2', 'ignore')
    """
    quoted = _QUOTED.match(text)
    if quoted:
        path, raw = quoted["table"] + _unquoted(quoted["name"]), quoted["value"].strip()
    else:
        path, equals, raw = (part.strip() for part in text.partition("="))
        if not equals or "." not in path or not all(path.split(".")):
            raise UserError("expected section.key=value, such as optimizer.lr=0.1")
    return path, parse_value(raw)


def parse_value(raw: str) -> Any:
    """Parse a value in TOML; a bare word is a string.

    Raises:
        UserError: it is neither.

    >>> parse_value("1e-3"), parse_value("sgd"), parse_value("[64, 64]")
    (0.001, 'sgd', [64, 64])
    """
    if "\n" in raw or "\r" in raw:
        raise UserError("the value must be on one line")
    try:
        return parse(f"value = {raw}")["value"]
    except UserError:
        if _BARE.match(raw):
            return raw
        if not raw:
            raise UserError('the value is empty; an empty string is ""') from None
        if raw[0] in _BRACKETS and not raw.endswith(_BRACKETS[raw[0]]):
            raise UserError(f"the value {_short(raw)} does not end with '{_BRACKETS[raw[0]]}'") from None
        words = [word.strip() for word in raw[1:-1].split(",")] if raw[0] == "[" else []
        if words and all(_BARE.match(word) for word in words):
            example = ", ".join(f'"{word}"' for word in words[:5])
            raise UserError(f"the strings in the list {_short(raw)} need quotes, as in [{example}]") from None
        raise UserError(
            f"the value {_short(raw)} is neither TOML nor a bare word; quote strings that contain spaces or symbols"
        ) from None
