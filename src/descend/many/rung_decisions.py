"""Decisions of successive halving, stored with the runs: which members continued at each rung."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from descend.files import json_bytes, read_json, write_atomically

__all__ = ["RungDecisions"]

FILE_NAME = "rungs.json"


class RungDecisions:
    """The numbers of the members that continued, by rung.

    A run that was killed between two rungs resumes from a state after the lower rung. The remaining members have since
    trained for more epochs, and others have been dropped: deciding the rung again could give another result.

    Args:
        folder: of all runs, or None to store nothing.
        resume: whether to read the decisions stored there.

    >>> RungDecisions(None).at(3, lambda: [0, 2])
    {0, 2}
    """

    def __init__(self, folder: Path | None, *, resume: bool = False) -> None:
        self._path = None if folder is None else folder / FILE_NAME
        stored = self._path is not None and resume and self._path.exists()
        self._decided: dict[str, list[int]] = read_json(self._path) if stored and self._path else {}

    def at(self, epoch: int, decide: Callable[[], Collection[int]]) -> set[int]:
        """Return which members continue at a rung; ``decide`` is called only if this has not been decided before."""
        name = str(epoch)
        if name not in self._decided:
            self._decided[name] = sorted(int(number) for number in decide())
            if self._path is not None:
                write_atomically(self._path, json_bytes(self._decided))
        return set(self._decided[name])
