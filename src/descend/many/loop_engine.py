"""Members one after another: what always works."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from descend.errors import DivergedError
from descend.launch import Launch
from descend.many.member import Member, Watcher
from descend.training.observers import Quiet

__all__ = ["LoopEngine"]


class LoopEngine:
    """Trains the members of a group one after another, each as :func:`descend.train` would.

    Args:
        members: whose ``run`` is replaced by the one that training leaves.
        watcher: is told of each epoch.
        why: the reason for training them like this.
    """

    name = "loop"

    def __init__(self, members: Sequence[Member], watcher: Watcher, why: str) -> None:
        self.members = list(members)
        self._why = why
        self._watcher = watcher
        self._launched: dict[int, Launch] = {}

    def advance(self, until: int | None) -> None:
        """Train all members that go on up to an epoch; None: to their ends."""
        for member in self.members:
            if member.going:
                self._advance(member, until)

    def _advance(self, member: Member, until: int | None) -> None:
        launched = self._launched.get(member.number)
        if launched is None:
            told = _Told(self._watcher.epoch_ended, member.number)
            launched = Launch(
                member.plan,
                member.folder,
                resume=member.resumed,
                model=member.training.model,
                observers=[told],
                tested=member.tested,
            )
            launched.run.environment["engine"] = {"name": self.name, "why": self._why, "members": 1}
            self._launched[member.number] = launched
            member.run = launched.run
        try:
            member.stopped = launched.advance(until)
        except DivergedError as cause:
            member.fail(str(cause), launched.training.epoch, launched.training.step)
        if member.stopped:
            self._finish(member)

    def _finish(self, member: Member) -> None:
        launched = self._launched.pop(member.number)
        if not member.run.failed:
            member.run = launched.finish()
        self._watcher.finished(member.number, member.run)

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop some members where they are, and measure them with their best weights so far."""
        for member in self.members:
            if member.number in numbers and member.going:
                member.stopped = reason
                self._launched[member.number].training.stopped = reason
                self._finish(member)


class _Told(Quiet):
    """Passes on that a member has done an epoch."""

    def __init__(self, tell: Callable[[int, dict[str, Any]], None], number: int) -> None:
        self._tell, self._number = tell, number

    def epoch_ended(self, training: Any, record: dict[str, Any]) -> None:
        self._tell(self._number, record)
