"""A lock on a folder: one process at a time, and one thread of it, trains into a folder.

The lock belongs to the process that holds it: the system releases it when the process ends, however it ends, so a
killed process leaves no lock. The file of the lock is removed when it is released. On file systems without locks,
such as some network file systems, the folder is locked against other threads of this process only.

Source: record locks of fcntl(2), POSIX.1-2024. Unlike those of flock(2), forked children do not inherit them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from descend.errors import RunError

__all__ = ["LOCK", "locked"]

LOCK = ".lock"
"""The name of the file in a folder that is locked. It contains the number of the process."""

_BUSY = (errno.EACCES, errno.EAGAIN)
"""What the system reports if another process holds a lock."""


class _Held:
    """The folders that this process has locked; a fork has none."""

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        """Forget the locks, which belong to the parent."""
        self.folders: dict[str, int] = {}
        self.guard = threading.Lock()


_HELD = _Held()


@contextmanager
def locked(folder: Path | None, what: str = "run") -> Iterator[None]:
    """Context in which this thread alone trains into a folder.

    The folder is created if it does not exist, and removed at the end if it is still empty. The same thread may enter
    the context of one folder again.

    Args:
        folder: the folder; None needs no lock.
        what: what the folder holds, for the message. Default "run".

    Raises:
        RunError: another process or thread trains into the folder. Nothing was changed.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> with locked(folder):
    ...     sorted(path.name for path in folder.iterdir())
    ['.lock']
    >>> list(folder.iterdir())
    []
    """
    if folder is None:
        yield
        return
    key, thread = os.path.realpath(folder), threading.get_ident()
    with _HELD.guard:
        holder = _HELD.folders.get(key)
        if holder is None:
            _HELD.folders[key] = thread
    if holder == thread:
        yield
        return
    if holder is not None:
        raise _in_use(folder, what, "another thread of this process")
    process = os.getpid()
    try:
        created, file = _acquire(folder, what)
        try:
            yield
        finally:
            if os.getpid() == process:
                _release(folder, file, created)
    finally:
        _HELD.folders.pop(key, None)


def _in_use(folder: Path, what: str, holder: str) -> RunError:
    return RunError(
        f"{folder} is in use: {holder} is writing a {what} into it; wait until it has ended, or choose another folder"
    )


def _acquire(folder: Path, what: str) -> tuple[bool, int | None]:
    """Return whether the folder was created, and the open file of the lock; None where there are no locks."""
    created = not folder.exists()
    path = folder / LOCK
    try:
        import fcntl
    except ImportError:  # on Windows
        return False, None
    while True:
        file = -1
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have removed the file in between; then this lock protects nothing.
            if os.fstat(file).st_ino == path.stat().st_ino:
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()}\n".encode())
                return created, file
            os.close(file)
        except FileNotFoundError:
            if file >= 0:
                os.close(file)
            if not folder.parent.is_dir():
                return created, None
        except OSError as cause:
            busy = file >= 0 and cause.errno in _BUSY
            number = _number(path) if busy else ""
            if file >= 0:
                os.close(file)
            if busy:
                raise _in_use(folder, what, f"another process{number}") from None
            return (
                created,
                None,
            )  # no locks here, or no permission: the first file that is written reports that


def _number(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError):
        return f" ({int(path.read_text(encoding='ascii'))})"
    return ""


def _release(folder: Path, file: int | None, created: bool) -> None:
    with contextlib.suppress(OSError):
        if file is not None:
            (folder / LOCK).unlink(missing_ok=True)
    if file is not None:
        with contextlib.suppress(OSError):
            os.close(file)
    if created:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only if it is empty
