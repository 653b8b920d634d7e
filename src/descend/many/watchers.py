"""Watchers: callbacks that are notified of the epochs and ends of many trainings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from descend.runs.run import Run

__all__ = ["Watcher", "Watchers"]


class Watcher(Protocol):
    """Watches many trainings; it does not change them."""

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Handle the end of an epoch of the member with this number; ``record`` is the new line of its history."""

    def finished(self, number: int, run: Run) -> None:
        """Handle the end of the member with this number, for whatever reason; its run has been evaluated."""


@dataclass
class Watchers:
    """Several watchers, notified as one."""

    each: list[Watcher] = field(default_factory=list)

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Notify all watchers."""
        for watcher in self.each:
            watcher.epoch_ended(number, record)

    def finished(self, number: int, run: Run) -> None:
        """Notify all watchers."""
        for watcher in self.each:
            watcher.finished(number, run)
