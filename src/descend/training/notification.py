"""Observers as users write them, made complete: objects with some of the methods, and functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from descend.errors import DescendError, ObserverError, UserError, closest, message_of
from descend.training.loop import Observer
from descend.training.observers import Quiet
from descend.training.records import Record

__all__ = [
    "EVENTS",
    "NamedObserver",
    "as_observer",
    "as_observers",
    "called",
    "check_events",
    "notices_steps",
]

EVENTS = ("started", "stepped", "epoch_ended", "finished")
"""The methods of an observer."""


def as_observer(observer: Any) -> Observer:
    """Return an observer with all methods, which names the given one if that raises an exception.

    Args:
        observer: an object with at least one of the methods of :class:`descend.training.loop.Observer`, or a function
            of a training and the record of an epoch, which is called at the end of each epoch.

    Raises:
        UserError: it is neither.

    >>> seen = []
    >>> as_observer(lambda training, record: seen.append(record["epoch"])).epoch_ended(None, {"epoch": 1})
    >>> seen
    [1]
    """
    if type(observer).__module__.startswith("descend."):
        check_events(observer, EVENTS, "observers")
        return observer  # type: ignore[no-any-return]  # it has all methods, as checked by the tests
    return NamedObserver(observer)


def as_observers(observers: Any) -> list[Observer]:
    """Return the observers of a training; see :func:`as_observer`.

    Args:
        observers: several observers, a single one, or None.

    Raises:
        UserError: one of them is not an observer.
    """
    if observers is None:
        return []
    several = isinstance(observers, Iterable) and not any(hasattr(observers, event) for event in EVENTS)
    return [
        as_observer(one) for one in (observers if several and not isinstance(observers, str) else [observers])
    ]


class NamedObserver(Quiet):
    """An observer that passes events on to an object with some of the methods, or to a function.

    An exception that this object raises is raised as an :class:`~descend.errors.ObserverError` that names it. A
    KeyboardInterrupt requests a stop, as Ctrl-C does.

    Args:
        observer: the object or the function.
    """

    def __init__(self, observer: Any) -> None:
        check_events(observer, EVENTS, "observers")
        self.observer = observer
        named = [event for event in EVENTS if callable(getattr(observer, event, None))]
        for event in named:
            setattr(self, event, self._passing(event, getattr(observer, event)))
        if not named:
            self.epoch_ended = self._passing("a call", observer)  # type: ignore[method-assign]  # the same arguments

    def _passing(self, event: str, method: Callable[..., object]) -> Callable[..., None]:
        def passed(training: Any, *record: Record) -> None:
            try:
                called(self.observer, event, method, training, *record)
            except KeyboardInterrupt:
                if training.stop_requested:  # a second Ctrl-C
                    raise
                training.stop_requested = True

        return passed


def notices_steps(observer: Observer) -> bool:
    """Return whether an observer does anything at a step."""
    return "stepped" in vars(observer) or type(observer).stepped is not Quiet.stepped


def called(
    owner: Any, event: str, method: Callable[..., object], *arguments: Any, what: str = "observer"
) -> None:
    """Call a method that a user wrote.

    Args:
        owner: the object it belongs to, or the function itself.
        event: the name of the method.
        method: the method.
        *arguments: its arguments.
        what: what the object is, for the message.

    Raises:
        ObserverError: it raised an exception; the message names the object and the method.
    """
    try:
        method(*arguments)
    except DescendError:
        raise
    except Exception as cause:
        raise ObserverError(
            f"the {what} {_name(owner)} raised an exception in {event}: {message_of(cause)}"
        ) from cause


def check_events(observer: Any, events: tuple[str, ...], argument: str) -> None:
    """Check that an object can be notified of events.

    Args:
        observer: the object.
        events: the names of the methods, of which it needs at least one.
        argument: the name of the argument, for the message.

    Raises:
        UserError: it is a class, or it has none of the methods and cannot be called.
    """
    if isinstance(observer, type):
        raise UserError(
            f"{argument}: {observer.__name__} is a class; pass an instance: {observer.__name__}()"
        )
    if callable(observer) or any(callable(getattr(observer, event, None)) for event in events):
        return
    own = [
        name for name in dir(observer) if not name.startswith("_") and callable(getattr(observer, name, None))
    ]
    similar = ((name, closest(name, events)) for name in own)
    found = next((f" (it has {name}: did you mean '{close}'?)" for name, close in similar if close), "")
    raise UserError(
        f"{argument}: {_name(observer)} has none of the methods {', '.join(events)} and is not a function{found}"
    )


def _name(observer: Any) -> str:
    name = getattr(observer, "__qualname__", None)
    return str(name) if isinstance(name, str) else type(observer).__qualname__
