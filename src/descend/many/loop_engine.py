"""Members one after another: what always works. Where it helps, in several processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from descend.data.batches import MemoryBatches
from descend.errors import DivergedError, Interrupted, UserError
from descend.many.member import Engine, Member, Watcher
from descend.many.workers import Kind, Outcome, StopsWhenAsked, Tell, Workers, why_not_here
from descend.runs.build import throwaway_steps
from descend.runs.plan import choose_device
from descend.runs.session import Session
from descend.training.observers import Quiet
from descend.training.records import Record
from descend.training.threads import cores, using_threads

__all__ = ["LoopEngine", "WorkerChoice", "check_workers", "in_one_loop"]

WorkerChoice = int | Literal["auto"]

WORTH = 1.0
"""Seconds of training beside the longest one from which on workers are started. A start takes some hundredths of one,
and what is measured to foresee the seconds is rough."""


def check_workers(workers: Any) -> None:
    """Refuse what is no number of processes.

    Raises:
        UserError: it is neither a number from 1 nor "auto".
    """
    if workers != "auto" and (not isinstance(workers, int) or workers < 1):
        raise UserError(f'workers: a number of processes from 1, or "auto", was expected, found {workers!r}')


class LoopEngine:
    """Trains members one after another, each as :func:`descend.train` would.

    Args:
        members: whose ``run`` is replaced by the one that training leaves.
        watcher: is told of each epoch.
        why: the reason for training them like this; one for all, or one for each number.
        workers: processes to train in, each on one thread; 1 to train in this one.
    """

    name = "loop"

    def __init__(
        self,
        members: Sequence[Member],
        watcher: Watcher,
        why: str | Mapping[int, str],
        workers: WorkerChoice = 1,
    ) -> None:
        self.members, self.watcher = list(members), watcher
        self.why = {member.number: why for member in members} if isinstance(why, str) else dict(why)
        self._workers = workers
        self._launched: dict[int, Session] = {}
        self._known: dict[int, int] = {}
        self._costs: dict[tuple[str, ...], float] = {}

    def advance(self, until: int | None) -> None:
        """Train all members that go on up to an epoch; None: to their ends.

        Raises:
            Interrupted: a signal asked to stop; checkpoints were saved if there is a folder.
        """
        going = [member for member in self.members if member.going]
        apart = self._fit_for_workers(going)
        count = self._processes(apart, until)
        if count > 1:
            self._advance_in_workers(apart, until, count)
            going = [member for member in going if member not in apart]
        for member in going:
            self._advance(member, until)

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop some members where they are, and measure them with their best weights so far."""
        for member in self.members:
            if member.number in numbers and member.going:
                member.stopped = reason
                self._launched[member.number].training.stopped = reason
                self._finish(member)

    def _launch(self, member: Member, workers: int = 1) -> Session:
        launched = self._launched.get(member.number)
        if launched is None:
            said = member.plan.recipe.engine["threads"]
            alone = (1, f"one of {workers} processes" if said == "auto" else "") if workers > 1 else None
            launched = Session(
                member.plan,
                member.folder,
                resume=member.resumed,
                model=member.training.model,
                tested=member.tested,
                threads=alone,
            )
            launched.run.environment["engine"] = {
                "name": self.name,
                "why": self.why[member.number],
                "members": 1,
                "workers": workers,
            }
            self._launched[member.number] = launched
            member.run = launched.run
            member.run.history = list(launched.training.history)
            self._known[member.number] = launched.training.epoch
        return launched

    def _heard(self, number: int, record: Record) -> None:
        """Take up the line of an epoch, once: a training that a worker has given back starts over."""
        if record["epoch"] > self._known[number]:
            self._known[number] = record["epoch"]
            self._launched[number].run.history.append(record)
            self.watcher.epoch_ended(number, record)

    def _advance(self, member: Member, until: int | None) -> None:
        launched = self._launch(member)
        training = launched.training
        own = training.observers
        training.observers = [_Told(self._heard, member.number), *own]
        try:
            member.stopped = launched.advance(until)
        except DivergedError as cause:
            member.fail(str(cause), training.epoch, training.step)
        finally:
            training.observers = own
        if member.stopped:
            self._finish(member)

    def _finish(self, member: Member) -> None:
        launched = self._launched.pop(member.number)
        if not member.run.failed:
            member.run = launched.finish()
        self.watcher.finished(member.number, member.run)

    def _fit_for_workers(self, members: Sequence[Member]) -> list[Member]:
        """Those that a worker can train to the bits that this process would give on one thread."""
        if self._workers == 1 or why_not_here():
            return []
        return [
            member
            for member in members
            if choose_device(member.plan.recipe.engine["device"]).type == "cpu"
            and isinstance(member.training.batches, MemoryBatches)
            and (
                self._launched[member.number].threads == 1
                if member.number in self._launched
                else member.plan.recipe.engine["threads"] in (1, "auto")
            )
        ]

    def _processes(self, members: Sequence[Member], until: int | None) -> int:
        """How many processes to train some members in."""
        if self._workers != "auto":
            return min(self._workers, len(members))
        count = min(cores(), len(members))
        if count < 2:
            return 1
        whole = longest = 0.0
        for member in members:
            ahead = self._seconds_ahead(member, until)
            whole, longest = whole + ahead, max(longest, ahead)
            if whole - longest > WORTH:
                return count
        return 1

    def _seconds_ahead(self, member: Member, until: int | None) -> float:
        """About how long a member trains up to an epoch, on one thread."""
        data, optimizer = member.plan.recipe.data, member.plan.recipe.optimizer
        kind = (str(member.training.model), str(data["batch_size"]), str(optimizer["name"]))
        if kind not in self._costs:
            self._costs[kind] = _seconds_of_a_step(member)
        last = member.training.stopping.max_epochs
        launched = self._launched.get(member.number)
        done = 0 if launched is None else launched.training.epoch
        epochs = max(0, (last if until is None else min(last, until)) - done)
        return epochs * member.training.batches.steps_per_epoch * self._costs[kind]

    def _advance_in_workers(self, members: Sequence[Member], until: int | None, count: int) -> None:
        of_number = {member.number: member for member in members}
        jobs = {n: _Alone(self._launch(member, count)) for n, member in of_number.items()}
        workers = Workers(jobs, until, count)
        returned: list[Member] = []

        def done(outcome: Outcome) -> None:
            member = of_number[outcome.number]
            training = self._launched[outcome.number].training
            if outcome.kind == "returned":
                returned.append(member)
                return
            if outcome.state is not None:
                training.load_state_dict(outcome.state)
                member.stopped = training.stopped
            if outcome.kind == "diverged":
                member.fail(outcome.message, training.epoch, training.step)
            elif outcome.kind == "lost":
                member.lose(outcome.message)
            if member.stopped and member.stopped != "interrupted":
                self._finish(member)

        workers.run(lambda number, said, record: self._heard(number, record), done)
        left = [member for member in self.members if member.going or member.stopped == "interrupted"]
        if workers.stop_requested or any(member.stopped == "interrupted" for member in members):
            raise Interrupted(f"stopped with {len(left)} of {len(self.members)} networks not done")
        for member in returned:
            self._advance(member, until)


def in_one_loop(engines: Sequence[Engine], workers: WorkerChoice) -> list[Engine]:
    """Engines with all loops as one, whose members may share worker processes."""
    loops = [engine for engine in engines if isinstance(engine, LoopEngine)]
    if not loops:
        return list(engines)
    members = sorted((member for loop in loops for member in loop.members), key=lambda member: member.number)
    why = {number: reason for loop in loops for number, reason in loop.why.items()}
    others: list[Engine] = [engine for engine in engines if not isinstance(engine, LoopEngine)]
    return [*others, LoopEngine(members, loops[0].watcher, why, workers)]


def _seconds_of_a_step(member: Member) -> float:
    """About how long a step takes on one thread: the best of a few, on copies."""
    device = choose_device(member.plan.recipe.engine["device"])
    with using_threads(1), throwaway_steps(member.plan, member.training.model, device) as step:
        taken = []
        for _ in range(4):  # the first one makes things that stay
            began = time.perf_counter()
            step()
            taken.append(time.perf_counter() - began)
    return min(taken)


@dataclass(frozen=True)
class _Alone:
    """A training as a job for a worker."""

    launched: Session

    def work(self, until: int | None, workers: Workers, tell: Tell) -> tuple[Kind, Any, str]:
        """Train, and tell of each epoch."""
        training = self.launched.training
        told = _Told(lambda number, record: tell({}, record), 0)
        training.observers = [StopsWhenAsked(workers), told, *training.observers]
        try:
            self.launched.advance(until)
        except DivergedError as cause:
            return "diverged", training.state_dict(), str(cause)
        return "trained", training.state_dict(), ""


class _Told(Quiet):
    """Passes on that a member has done an epoch."""

    def __init__(self, tell: Callable[[int, dict[str, Any]], None], number: int) -> None:
        self._tell, self._number = tell, number

    def epoch_ended(self, training: Any, record: dict[str, Any]) -> None:
        self._tell(self._number, record)
