"""Children of programs that train and are killed: each is forked from a process that has imported everything once.

For programs that a test starts. A test's own process has threads, which a child would not have.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable

IMPORTED = [
    "numpy.ctypeslib",
    "numpy.ma",
    "polars",  # used by none before the fork, as that would start threads
    "pydantic.fields",
    "pydantic.types",
    "sklearn.datasets",
    "torch._dynamo",  # imported by the first optimizer otherwise, in each child, for seconds
    "descend.api",
]
for name in IMPORTED:
    importlib.import_module(name)


def exit_status(action: Callable[[], object]) -> int:
    """Call this in a child and return the child's exit status: negative for the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException as cause:
            print(type(cause).__name__, cause, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
