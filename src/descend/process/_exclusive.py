"""Exclusive use of the global state of a process.

Some state exists once per process: the random generators of PyTorch, NumPy and Python, and the filters of warnings.
A training seeds the generators before each step, so two trainings in two threads would use each other's random
numbers, and equal seeds would not give equal networks. Whatever uses such state holds one lock of the process while
it does. Predictions use none and do not wait.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["exclusive"]


class _Lock:
    """A re-entrant lock that a fork replaces: the thread that held it may not exist in the child."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Replace the lock by one that nobody holds."""
        self.current = threading.RLock()


_LOCK = _Lock()


@contextmanager
def exclusive() -> Iterator[None]:
    """Context that one thread of the process is in at a time.

    A thread may enter it again. Another thread waits until the first has left; Ctrl-C ends the wait. A forked child
    does not inherit the lock.

    >>> with exclusive(), exclusive():
    ...     print("one thread")
    one thread
    """
    with _LOCK.current:
        yield
