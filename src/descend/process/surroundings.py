"""What libraries change in a process when they are imported, and what is restored after a call.

Libraries are imported when they are first needed. Some set environment variables or add filters of warnings at that
moment, which a call of a function should not do. The variables are only read while the libraries load.
"""

from __future__ import annotations

import functools
import importlib
import os
import random
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import ParamSpec, TypeVar

from descend.process._exclusive import exclusive

__all__ = ["imported", "undisturbed"]

P = ParamSpec("P")
R = TypeVar("R")

VARIABLES = ("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK", "TORCHINDUCTOR_CACHE_DIR", "_RJEM_MALLOC_CONF")
"""Environment variables that scikit-learn, PyTorch and polars set, unless they are set already."""


def undisturbed(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function after whose call the process has the environment and the filters of warnings that it had before.

    Filters that ignore warnings remain, since without them a library would warn of itself.

    >>> import sys
    >>> before = list(warnings.filters)
    >>> undisturbed(warnings.simplefilter)("always")
    >>> warnings.filters == before
    True
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        absent = [name for name in VARIABLES if name not in os.environ]
        filters = list(warnings.filters)
        try:
            return function(*args, **kwargs)
        finally:
            for name in absent:
                os.environ.pop(name, None)
            _restore(filters)

    return call


def _restore(before: Sequence[tuple[object, ...]]) -> None:
    added = [each for each in warnings.filters if each not in before]
    if all(each[0] == "ignore" for each in added):
        return
    with exclusive():
        warnings.filters[:] = [  # type: ignore[index]  # it is a list
            each for each in warnings.filters if each in before or each[0] == "ignore"
        ]
        with warnings.catch_warnings():  # on exit it resets what was derived from the filters
            pass


@undisturbed
def imported(module: str) -> ModuleType:
    """Import a module and what it needs; also the state of Python's random numbers, which rich advances, is restored."""
    state = random.getstate()
    try:
        return importlib.import_module(module)
    finally:
        random.setstate(state)
