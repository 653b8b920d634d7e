"""Data returned by a user's function, ``package.module:function``."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from descend.errors import DataError, DescendError, did_you_mean

__all__ = ["call", "is_function_path"]


def is_function_path(name: str) -> bool:
    """Return whether a string has the form ``package.module:function``.

    >>> is_function_path("my.data:load"), is_function_path("data.csv"), is_function_path("C:/data.csv")
    (True, False, False)
    """
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", name) is not None


def call(path: str) -> Any:
    """Call a function, given by its path, without arguments, and return the result.

    The current directory is on the module search path while the module is imported and the function runs.

    >>> call("platform:python_implementation")
    'CPython'

    Raises:
        DataError: there is no such module or function, or the function failed; the message includes its own.
    """
    module_name, _, name = path.partition(":")
    with _current_directory():
        function: Any = _module(path, module_name)
        for attribute in name.split("."):
            if not hasattr(function, attribute):
                public = [one for one in dir(function) if not one.startswith("_")][:50]
                raise DataError(
                    f"{path}: {module_name} has no function {attribute!r}; {did_you_mean(attribute, public)}"
                )
            function = getattr(function, attribute)
        if not callable(function):
            raise DataError(f"{path}: expected a function, got an object of type {type(function).__name__}")
        try:
            return function()
        except (DescendError, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as cause:
            raise DataError(
                f"{path} failed with {type(cause).__name__}: {cause}{_location(cause)}"
            ) from cause


def _module(path: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as cause:
        if cause.name is not None and (name == cause.name or name.startswith(cause.name + ".")):
            files = [one.stem for one in Path.cwd().glob("*.py")]
            suggestion = f"; {did_you_mean(name, files)}" if files else ""
            raise DataError(
                f"{path}: no module {name!r} in the current directory ({Path.cwd()}) or installed{suggestion}"
            ) from cause
        raise DataError(f"{path}: importing {name} failed: {cause}{_location(cause)}") from cause
    except KeyboardInterrupt:
        raise
    except (Exception, SystemExit) as cause:
        raise DataError(
            f"{path}: importing {name} failed with {type(cause).__name__}: {cause}{_location(cause)}"
        ) from cause


def _location(cause: BaseException) -> str:
    """Return the file and line where an exception was raised, in parentheses."""
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    file = trace.tb_frame.f_code.co_filename
    return "" if file.startswith("<") else f" ({Path(file).name}, line {trace.tb_lineno})"


@contextmanager
def _current_directory() -> Iterator[None]:
    """Put the current directory on the module search path."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
