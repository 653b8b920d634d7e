"""A lock on a folder: one process at a time, and one thread of it, trains into a folder.

The system releases the lock when the process that holds it ends, however it ends, so a killed process leaves no lock. The
file of the lock is removed when the lock is released. On file systems without locks, such as some network file systems,
the folder is locked against other threads of this process only.

Source: flock(2). Such a lock belongs to an open file; forked children close their copies of it.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from descend.errors import RunError, UserError

__all__ = ["LOCK", "check_unlocked", "locked", "locks_out"]

P = ParamSpec("P")
R = TypeVar("R")

LOCK = ".lock"
"""The name of the file in a folder that is locked. It contains the number of the process."""

_ATTEMPTS = 100
"""How often a lock is tried whose file or folder another process removes at the same time. Some file systems, such as
/proc, always answer as if that had happened."""


class _Held:
    """The folders that this process has locked, each with its thread and its open file."""

    def __init__(self) -> None:
        self.folders: dict[str, tuple[int, int | None]] = {}
        self.guard = threading.Lock()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.forget)

    def forget(self) -> None:
        """Called in a forked child, to which the locks of its parent do not belong."""
        for _, file in self.folders.values():
            if file is not None:
                with suppress(OSError):
                    os.close(file)
        self.folders, self.guard = {}, threading.Lock()


_HELD = _Held()


@contextmanager
def locked(folder: Path | None, what: str = "run") -> Iterator[None]:
    """Context in which this thread alone trains into a folder.

    The folder is created if it does not exist, and removed at the end if it is still empty. The thread may enter the
    context of the same folder again.

    Args:
        folder: the folder; None needs no lock.
        what: what is written into the folder, for the message. Default "run".

    Raises:
        RunError: another process or thread writes into the folder. Nothing was changed.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "new"
    >>> with locked(folder):
    ...     [path.name for path in folder.iterdir()]
    ['.lock']
    >>> folder.exists()
    False
    """
    if folder is None:
        yield
        return
    key, thread, process = os.path.realpath(folder), threading.get_ident(), os.getpid()
    with _HELD.guard:
        holder = _HELD.folders.get(key)
        if holder is None:
            created = _missing(folder)
            _HELD.folders[key] = (thread, _acquire(folder, what))
    if holder is not None:
        if holder[0] != thread:
            raise _in_use(folder, what, "another thread of this process")
        yield
        return
    try:
        yield
    finally:
        if os.getpid() == process:
            with _HELD.guard:
                _release(folder, _HELD.folders.pop(key)[1])
            for each in created:
                with suppress(OSError):
                    each.rmdir()  # only if it is empty


def locks_out(what: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for a function that writes into the folder ``out``: the folder is locked during the call.

    Args:
        what: what the function writes, for the message.

    Raises:
        UserError: ``out`` is an empty string.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            out: Any = kwargs.get("out")
            if out == "":
                raise UserError(f"out: expected the folder of the {what}, got an empty string")
            folder = Path(out) if isinstance(out, str | os.PathLike) else None
            if folder is not None and kwargs.get("resume") and not folder.is_dir():
                folder = None  # there is nothing to resume
            with locked(folder, what):
                return function(*args, **kwargs)

        return call

    return decorate


def release_all() -> None:
    """Release all locks of this process, which is about to end, and remove the locked folders that are empty."""
    for name, (_, file) in list(_HELD.folders.items()):
        _release(Path(name), file)
        with suppress(OSError):
            Path(name).rmdir()


def check_unlocked(folder: Path, what: str = "run") -> None:
    """Refuse a folder into which another process or thread writes.

    Raises:
        RunError: the folder is locked.
    """
    with _HELD.guard:
        holder = _HELD.folders.get(os.path.realpath(folder))
        if holder is not None:
            if holder[0] != threading.get_ident():
                raise _in_use(folder, what, "another thread of this process")
        elif (folder / LOCK).exists():
            _release(folder, _acquire(folder, what))


def _in_use(folder: Path, what: str, holder: str) -> RunError:
    return RunError(
        f"{folder} is in use: {holder} is writing a {what} into it; wait until it has ended, or choose another folder"
    )


def _missing(folder: Path) -> list[Path]:
    """Return the folder and its parents that do not exist, the folder first."""
    return [each for each in (folder, *folder.parents) if not each.exists()]


def _acquire(folder: Path, what: str) -> int | None:
    """Return the open file of the lock; None if the system or the file system has no locks, or refuses."""
    try:
        import fcntl
    except ImportError:  # on Windows
        return None
    path = folder / LOCK
    for _ in range(_ATTEMPTS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (
            FileNotFoundError
        ):  # another process has just removed the folder, or the system creates none there
            continue
        except OSError:  # the first file that is written reports the cause
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = os.fstat(file).st_ino == path.stat().st_ino  # else its last holder has just removed it
        except BlockingIOError:
            number = _number(file)
            os.close(file)
            raise _in_use(folder, what, f"another process{number}") from None
        except FileNotFoundError:
            current = False
        except OSError:
            current = True  # there are no locks
        if current:
            with suppress(OSError):
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()}\n".encode())
            return file
        os.close(file)
    return None


def _number(file: int) -> str:
    with suppress(OSError, ValueError):
        return f" ({int(os.pread(file, 20, 0))})"
    return ""


def _release(folder: Path, file: int | None) -> None:
    if file is not None:
        with suppress(OSError):
            (folder / LOCK).unlink()
        with suppress(OSError):
            os.close(file)
