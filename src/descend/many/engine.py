"""The interface of an engine: what trains the members of one group."""

from __future__ import annotations

from typing import Protocol

from descend.many.planned_member import PlannedMember

__all__ = ["Engine"]


class Engine(Protocol):
    """Trains the members of one group."""

    members: list[PlannedMember]

    def advance(self, until: int | None) -> None:
        """Train all running members up to the end of an epoch; None: until they have stopped."""

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop the members with these numbers at once; the results of the others do not change."""
