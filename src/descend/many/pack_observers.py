"""Observers of the members of a pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from descend.many.pack import PackMember, PackTraining
from descend.training.loop import Observer
from descend.training.notification import notices_steps
from descend.training.observers import Quiet
from descend.training.records import Record

__all__ = ["PackObservers"]


class PackObservers(Quiet):
    """Observer of a pack that notifies observers of its members, as in solo runs.

    The model of a member's training holds its weights at the end of an epoch, and not at a step within it.

    Args:
        observers: of each member, by its number.
    """

    def __init__(self, observers: Mapping[int, Sequence[Observer]]) -> None:
        self._observers = observers
        self._stepped = {
            number: [each.stepped for each in own if notices_steps(each)] for number, own in observers.items()
        }

    def started(self, training: Any) -> None:
        """Notify the observers of the members that are trained."""
        for member in _running(training):
            for observer in self._observers[member.number]:
                observer.started(member.training)

    def stepped(self, training: Any) -> None:
        """Notify the observers that notice steps."""
        for member in _running(training):
            stepped = self._stepped[member.number]
            if stepped:
                t = member.training
                t.step, t.step_in_epoch = training.step, training.step_in_epoch
                for notify in stepped:
                    notify(t)
                training.stop_requested = training.stop_requested or t.stop_requested

    def observed(self, member: PackMember, record: Record) -> None:
        """Notify the observers of a member of the end of an epoch."""
        for observer in self._observers[member.number]:
            observer.epoch_ended(member.training, record)

    def member_ended(self, member: PackMember) -> None:
        """Notify the observers of a member of its end."""
        for observer in self._observers[member.number]:
            observer.finished(member.training)

    def finished(self, training: Any) -> None:
        """Notify the observers of the members that have not stopped of a pause or an interruption."""
        for member in _running(training):
            self.member_ended(member)


def _running(training: PackTraining) -> list[PackMember]:
    return [member for member in training.members if not member.training.stopped]
