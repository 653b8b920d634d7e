"""Data from a function that the user names: ``package.module:function``."""

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


def is_function_path(text: str) -> bool:
    """Whether a text has the form ``package.module:function``.

    >>> is_function_path("my.data:load"), is_function_path("data.csv"), is_function_path("C:/data.csv")
    (True, False, False)
    """
    return re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*", text) is not None


def call(path: str) -> Any:
    """What the function returns, called without arguments.

    The current directory counts as a place of modules while the module is imported and the function runs.

    >>> call("platform:python_implementation")
    'CPython'

    Raises:
        DataError: no such module or function, or the function failed; its own words are in the message.
    """
    module_name, _, name = path.partition(":")
    with _current_directory():
        found: Any = _module(path, module_name)
        for step in name.split("."):
            if not hasattr(found, step):
                near = did_you_mean(step, [one for one in dir(found) if not one.startswith("_")][:50])
                raise DataError(f"{path}: {module_name} has no function {step!r}; {near}")
            found = getattr(found, step)
        if not callable(found):
            raise DataError(f"{path}: a function was expected, found a {type(found).__name__}")
        try:
            return found()
        except (DescendError, KeyboardInterrupt):
            raise
        except (Exception, SystemExit) as cause:
            raise DataError(f"{path} failed with {type(cause).__name__}: {cause}{_place(cause)}") from cause


def _module(path: str, name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as cause:
        if cause.name is not None and (name == cause.name or name.startswith(cause.name + ".")):
            files = [one.stem for one in Path.cwd().glob("*.py")]
            near = f"; {did_you_mean(name, files)}" if files else ""
            raise DataError(
                f"{path}: no module {name!r} here ({Path.cwd()}) or among the installed{near}"
            ) from cause
        raise DataError(f"{path}: importing {name} failed: {cause}{_place(cause)}") from cause
    except KeyboardInterrupt:
        raise
    except (Exception, SystemExit) as cause:
        raise DataError(
            f"{path}: importing {name} failed with {type(cause).__name__}: {cause}{_place(cause)}"
        ) from cause


def _place(cause: BaseException) -> str:
    """The file and line where it happened."""
    trace = cause.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    file = trace.tb_frame.f_code.co_filename
    return "" if file.startswith("<") else f" ({Path(file).name}, line {trace.tb_lineno})"


@contextmanager
def _current_directory() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
