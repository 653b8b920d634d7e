"""Work in a forked process.

A fork copies the memory of a process and one of its threads. Thread pools of libraries, which the parent has used, do
not exist in the child although their memory says that they do: an operation that hands work to such a pool waits for
it forever. This happens with web servers that load a program before they fork, with the start method "fork" of
``multiprocessing``, which was Python's default on Linux before 3.14, and with the backend "multiprocessing" of joblib.

PyTorch is limited to one thread in such a child, which uses no pool. Most operations of
polars on single columns use no pool either. The others depend on the operation and on the size of the table, so tables
are processed by a thread that is watched (:func:`in_fork`): if it waits for threads that do not exist, the caller gets
an error with the remedy.

A fork is noticed by a hook that ``import descend`` registers. A child that imports descend itself, after its parent has used
polars, is noticed on Linux by a flag that a fork sets and exec clears.

Sources: fork(2) and pthread_atfork(3p), POSIX.1-2024: the child has a single thread, a copy of the caller; PF_FORKNOEXEC in
proc_pid_stat(5) and the kernel's include/linux/sched.h.
"""

from __future__ import annotations

import contextvars
import functools
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from descend.errors import UserError

__all__ = ["REMEDY", "in_fork", "is_fork"]

P = ParamSpec("P")
R = TypeVar("R")

WATCHED = ("polars", "narwhals")
"""The packages whose operations may wait for a thread pool."""

POOLS = ("polars-", "async-executor", "tokio-rt")
"""How the names of the threads of these pools begin. Pools that were not used before the fork can start after it."""

INTERVAL = 0.05
"""Seconds between two looks at the watched thread."""

PATIENCE = 10
"""The number of looks in a row that find the thread waiting without having used the processor, before it is given up."""

PF_FORKNOEXEC = 0x40
"""The flag of a process of Linux that was forked and has not executed a program since."""

REMEDY = (
    "start the process by the method 'spawn' or 'forkserver' (multiprocessing.get_context('spawn'), joblib's backend "
    "'loky', gunicorn without --preload), or do this before the fork"
)
"""How to avoid a fork, for messages."""


class _Fork:
    """Whether this process is a fork of one that may have used thread pools."""

    def __init__(self) -> None:
        self.happened = False
        self.thread = threading.local()
        if getattr(sys.modules["descend"], "_forked", False) or (
            "polars" in sys.modules and _has_not_executed()
        ):
            self.note()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.note)

    def note(self) -> None:
        """Called in the child: limit PyTorch, if it has been imported, to one thread."""
        self.happened = True
        limit = getattr(sys.modules.get("torch"), "set_num_threads", None)
        if limit is not None:
            limit(1)


def _has_not_executed() -> bool:
    """Whether this process was forked and has not executed a program since; False where the system does not tell."""
    with suppress(OSError, ValueError, IndexError):
        stat = Path("/proc/self/stat").read_text()
        return bool(int(stat[stat.rindex(")") + 2 :].split()[6]) & PF_FORKNOEXEC)
    return False


_FORK = _Fork()


def is_fork() -> bool:
    """Whether this process was forked from one that had imported descend, or that had imported polars before descend.

    >>> is_fork()
    False
    """
    return _FORK.happened


def in_fork(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that processes tables as one that, in a forked process, returns or raises an error.

    In other processes the function is called directly.

    Args:
        function: reads or converts data. It does not depend on settings of the calling thread.

    Raises:
        UserError: in a forked process, the function waits for threads that do not exist.

    >>> in_fork(sorted)([2, 1])
    [1, 2]
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _FORK.happened or getattr(_FORK.thread, "watched", False):
            return function(*args, **kwargs)
        return _watched(functools.partial(function, *args, **kwargs))

    return call


def _watched(work: Callable[[], R]) -> R:
    """Do the work in a thread, and give it up if the thread waits for a pool that does not exist."""
    results: list[R] = []
    failures: list[BaseException] = []
    ended = threading.Event()
    context = contextvars.copy_context()

    def run() -> None:
        _FORK.thread.watched = True
        try:
            results.append(context.run(work))
        except BaseException as failure:  # panics of polars do not derive from Exception
            failures.append(failure)
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="descend-table", daemon=True)
    thread.start()
    before, looks = -1.0, 0
    while not ended.wait(INTERVAL):
        used = _used_seconds(thread)
        looks = looks + 1 if used == before and _waits_in_library(thread) else 0
        before = used
        if looks >= PATIENCE and not ended.is_set():
            raise UserError(
                "this process is a fork, in which the threads of polars do not exist, and an operation on a table "
                f"needs them; {REMEDY}"
            )
    if failures:
        raise failures[0]
    return results[0]


def _used_seconds(thread: threading.Thread) -> float:
    """Return the processor time that a thread has used; that of the process where threads are not timed."""
    if hasattr(time, "pthread_getcpuclockid") and thread.ident is not None:
        with suppress(OSError):  # it has just ended
            return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
    return time.process_time()


def _waits_in_library(thread: threading.Thread) -> bool:
    """Whether a thread sleeps in an operation of a watched package, and no thread of a pool works for it."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None or str(frame.f_globals.get("__name__")).partition(".")[0] not in WATCHED:
        return False
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        return True
    for task in tasks.iterdir():
        with suppress(OSError):  # it has just ended
            status = (task / "stat").read_text()
            name, state = status[status.index("(") + 1 : status.rindex(")")], status[status.rindex(")") + 2]
            if state != "S" and (name.startswith(POOLS) or int(task.name) == thread.native_id):
                return False
    return True
