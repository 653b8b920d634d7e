"""Settings in the words of the interface in use: options for a shell, keyword arguments in Python.

A message that advises to change a setting is read by someone who types a command, or by someone who writes Python. The
program declares itself by :func:`command_line`; everything else is Python.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = ["command_line", "in_command_line", "option", "resume_advice", "setting"]

_active = False


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

    >>> setting(("data", "columns", "sepal length"), "ignore"), setting("data.missing", ["", "-"])
    ("{'data.columns.sepal length': 'ignore'}", "{'data.missing': ['', '-']}")
    >>> with command_line():
    ...     setting(("data", "columns", "sepal length"), "ignore"), setting("data.missing", ["", "-"])
    ('--set \'data.columns."sepal length"=ignore\'', '--set \'data.missing=["", "-"]\'')
    """
    path = key.split(".") if isinstance(key, str) else list(key)
    if not _active:
        return repr({".".join(path): value})
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
