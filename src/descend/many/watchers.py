"""Watchers: callbacks that are notified of the epochs and ends of many trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from descend.runs.run import Run
from descend.training.notification import called, check_events

__all__ = ["Watcher", "Watchers"]

EVENTS = ("epoch_ended", "finished")


class Watcher(Protocol):
    """Watches many trainings; it does not change them."""

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Handle the end of an epoch of the member with this number; ``record`` is the new line of its history."""

    def finished(self, number: int, run: Run) -> None:
        """Handle the end of the member with this number, for whatever reason; its run has been evaluated."""


class Watchers:
    """Several watchers, notified as one.

    Args:
        each: objects with at least one of the methods of :class:`Watcher`, or functions of a number and a record, which
            are called at the end of each epoch.

    Raises:
        UserError: one of them is neither.
    """

    def __init__(self, each: Sequence[Any] = ()) -> None:
        self.each = list(each)
        for watcher in self.each:
            check_events(watcher, EVENTS, "watchers")

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Notify all watchers."""
        for watcher in self.each:
            method = getattr(watcher, "epoch_ended", None)
            if method is None and not hasattr(watcher, "finished"):
                method = watcher
            if method is not None:
                called(watcher, "epoch_ended", method, number, record, what="watcher")

    def finished(self, number: int, run: Run) -> None:
        """Notify all watchers."""
        for watcher in self.each:
            method = getattr(watcher, "finished", None)
            if method is not None:
                called(watcher, "finished", method, number, run, what="watcher")
