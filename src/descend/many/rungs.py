"""Who went on at each rung, kept with the runs: what was decided once is not asked again after a resume."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from descend.files import json_bytes, read_json, write_atomically

__all__ = ["Decisions"]

RUNGS = "rungs.json"


class Decisions:
    """The numbers of those that went on, by rung.

    A run that was killed between two rungs goes on from a state in which the lower rung is decided. The members that
    are left have come further by then, and some of their mates are gone: asked again, anyone would decide otherwise.

    Args:
        folder: of all runs, or None: then nothing is kept.
        resume: whether to go on from what is there.

    >>> Decisions(None).at(3, lambda: [0, 2])
    {0, 2}
    """

    def __init__(self, folder: Path | None, *, resume: bool = False) -> None:
        self._path = None if folder is None else folder / RUNGS
        known = self._path is not None and resume and self._path.exists()
        self._decided: dict[str, list[int]] = read_json(self._path) if known and self._path else {}

    def at(self, epoch: int, ask: Callable[[], Collection[int]]) -> set[int]:
        """Who goes on at a rung; ``ask`` is called if that is not decided yet."""
        name = str(epoch)
        if name not in self._decided:
            self._decided[name] = sorted(int(number) for number in ask())
            if self._path is not None:
                write_atomically(self._path, json_bytes(self._decided))
        return set(self._decided[name])
