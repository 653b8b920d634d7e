"""Settings in the words of the interface in use: options for a shell, keyword arguments in Python.

A message that advises to change a setting is read by someone who types a command, or by someone who writes Python. The
program declares itself by :func:`command_line`, and an estimator, whose parameters have names of their own, by
:func:`parameters`; everything else is Python with recipes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

__all__ = [
    "command_line",
    "in_command_line",
    "key_name",
    "option",
    "parameters",
    "resume_advice",
    "setting",
]

_ESTIMATORS: Mapping[Any, str] = {
    "classification": "descend.Classifier",
    "regression": "descend.Regressor",
    "multi_regression": "descend.Regressor",
}
"""The estimator for each value of ``data.task``."""

_active = False
_parameters: ContextVar[Mapping[str, str] | None] = ContextVar("parameters", default=None)


def in_command_line() -> bool:
    """Return whether messages are read on the command line."""
    return _active


@contextmanager
def command_line() -> Iterator[None]:
    """Context in which messages name options of the program. It applies to all threads.

    >>> setting("optimizer.lr", 0.1), option("--resume", "resume=True")
    ("{'optimizer.lr': 0.1}", 'resume=True')
    >>> with command_line():
    ...     setting("optimizer.lr", 0.1), option("--resume", "resume=True")
    ('--set optimizer.lr=0.1', '--resume')
    """
    global _active
    before, _active = _active, True
    try:
        yield
    finally:
        _active = before


@contextmanager
def parameters(names: Mapping[str, str]) -> Iterator[None]:
    """Context of this thread in which messages name the parameters of an estimator.

    Args:
        names: the parameter that sets a key, by the key; the others are keys of the parameter ``recipe``.

    >>> with parameters({"optimizer.lr": "lr"}):
    ...     setting("optimizer.lr", 0.1), setting("gradient.clip_norm", 1.0), key_name("optimizer.lr")
    ('lr=0.1', "recipe={'gradient.clip_norm': 1.0}", 'lr')
    """
    token = _parameters.set(MappingProxyType(dict(names)))
    try:
        yield
    finally:
        _parameters.reset(token)


def key_name(key: str) -> str:
    """Return the name of a key of the recipe in the interface in use: that of an estimator's parameter, or the key."""
    own = None if _active else _parameters.get()
    return key if own is None else own.get(key, key)


def option(shell: str, python: str) -> str:
    """Return the words for an option: ``shell`` on the command line, else ``python``."""
    return shell if _active else python


def resume_advice(folder: object) -> str:
    """Return how to continue what was started in a folder; empty for None.

    >>> resume_advice("runs/iris")
    "; continue with resume=True, out='runs/iris'"
    """
    if folder is None:
        return ""
    return (
        f"; continue with --resume --out {folder}"
        if _active
        else f"; continue with resume=True, out={str(folder)!r}"
    )


def setting(key: str | Sequence[str], value: Any) -> str:
    r"""Return how to set a key of the recipe: an option, or an entry of the recipe in Python.

    Args:
        key: ``"section.key"``, or the names along the path, of which the last may contain any character.
        value: the value, as Python has it.

    Returns:
        An option of the command line, a parameter of the estimator in use, or an entry of the recipe.

    >>> setting(("data", "columns", "sepal length"), "ignore"), setting("data.missing", ["", "-"])
    ("{'data.columns.sepal length': 'ignore'}", "{'data.missing': ['', '-']}")
    >>> with command_line():
    ...     setting(("data", "columns", "sepal length"), "ignore"), setting("data.missing", ["", "-"])
    ('--set \'data.columns."sepal length"=ignore\'', '--set \'data.missing=["", "-"]\'')
    """
    path = key.split(".") if isinstance(key, str) else list(key)
    if not _active:
        own, joined = _parameters.get(), ".".join(path)
        if own is not None and joined == "data.task":
            return _ESTIMATORS.get(value, "another estimator")
        if own is not None and joined in own:
            return f"{own[joined]}={value!r}"
        return repr({joined: value}) if own is None else f"recipe={ {joined: value}!r}"
    text = ".".join(_toml_key(name) for name in path) + "=" + _toml_value(value)
    if re.fullmatch(r"[A-Za-z0-9_.,=+-]+", text):
        return f"--set {text}"
    return "--set '" + text.replace("'", "'\\''") + "'"


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _toml_value(value: Any) -> str:
    if isinstance(value, str):
        bare = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", value) and value not in (
            "true",
            "false",
            "inf",
            "nan",
        )
        return value if bare else _quoted(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return (
            "["
            + ", ".join(_quoted(each) if isinstance(each, str) else _toml_value(each) for each in value)
            + "]"
        )
    if isinstance(value, Mapping):
        pairs = (
            f"{_toml_key(key)} = {_quoted(each) if isinstance(each, str) else _toml_value(each)}"
            for key, each in value.items()
        )
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return f"{value:.1f}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'
