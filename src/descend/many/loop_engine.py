"""The engine that trains members one after another, or in several worker processes. It can train any member."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from descend.data.batches import MemoryBatches
from descend.errors import DivergedError, Interrupted, UserError
from descend.many.engine import Engine
from descend.many.planned_member import PlannedMember
from descend.many.watchers import Watcher
from descend.many.workers import Kind, Outcome, Send, StopOnRequest, Workers, workers_unavailable_because
from descend.runs.build import throwaway_steps
from descend.runs.plan import choose_device
from descend.runs.session import Session
from descend.training.observers import Quiet
from descend.training.records import Record
from descend.training.threads import cores, using_threads
from descend.training.timing import shortest_seconds

__all__ = ["LoopEngine", "WorkerChoice", "check_workers", "merge_loops"]

WorkerChoice = int | Literal["auto"]

MIN_PARALLEL_SECONDS = 1.0
"""Seconds of training, in addition to the longest one, from which on workers are started. Starting one takes some hundredths
of a second, and the estimate of the seconds is rough."""


def check_workers(workers: Any) -> None:
    """Check a requested number of worker processes.

    Raises:
        UserError: it is neither an integer of at least 1 nor "auto".
    """
    if workers != "auto" and (not isinstance(workers, int) or workers < 1):
        raise UserError(f'workers: expected an integer of at least 1 or "auto", got {workers!r}')


class LoopEngine:
    """Trains members one after another, each as :func:`descend.train` would.

    Args:
        members: their ``run`` is replaced by the trained one.
        watcher: notified of epochs and ends.
        why: the reason for this engine: one for all members, or one for each number.
        workers: processes to train in, each on one thread; 1 to train in this process.
    """

    name = "loop"

    def __init__(
        self,
        members: Sequence[PlannedMember],
        watcher: Watcher,
        why: str | Mapping[int, str],
        workers: WorkerChoice = 1,
    ) -> None:
        self.members, self.watcher = list(members), watcher
        self.why = {member.number: why for member in members} if isinstance(why, str) else dict(why)
        self._workers = workers
        self._sessions: dict[int, Session] = {}
        self._last_epoch: dict[int, int] = {}
        self._seconds_by_kind: dict[tuple[str, ...], float] = {}

    def advance(self, until: int | None) -> None:
        """Train all running members up to the end of an epoch; None: until they have stopped.

        Raises:
            Interrupted: a signal requested to stop; checkpoints were saved if there is a folder.
        """
        running = [member for member in self.members if member.running]
        parallel = self._trainable_in_workers(running)
        count = self._process_count(parallel, until)
        if count > 1:
            self._advance_in_workers(parallel, until, count)
            running = [member for member in running if member not in parallel]
        for member in running:
            self._advance(member, until)

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop the members with these numbers at once, and evaluate them with their best weights so far.

        A member without a complete epoch has no such weights, and is marked as failed.
        """
        for member in self.members:
            if member.number in numbers and member.running:
                begun = member.resumed or member.number in self._sessions
                training = self._session(member).training if begun else member.training
                if not training.history:
                    self._sessions.pop(member.number, None)
                    member.mark_failed("it was stopped before the end of its first epoch", 0, 0, reason)
                    continue
                training.stopped = member.stopped = training.stopped or reason
                self._finish(member)

    def _session(self, member: PlannedMember, workers: int = 1) -> Session:
        session = self._sessions.get(member.number)
        if session is None:
            threads = None
            if workers > 1:
                automatic = member.plan.recipe.engine["threads"] == "auto"
                threads = (1, f"one of {workers} processes" if automatic else "")
            session = Session(
                member.plan,
                member.folder,
                resume=member.resumed,
                model=member.training.model,
                observers=[*member.observers, *member.limits],
                batches=member.batches,
                tested=member.tested,
                threads=threads,
            )
            session.training.number = member.number
            session.run.environment["engine"] = {
                "name": self.name,
                "why": self.why[member.number],
                "members": 1,
                "workers": workers,
            }
            self._sessions[member.number] = session
            member.run = session.run
            member.run.history = list(session.training.history)
            self._last_epoch[member.number] = session.training.epoch
        return session

    def _record_epoch(self, number: int, record: Record) -> None:
        """Record an epoch and notify the watcher, once: a training that a worker has returned starts again."""
        if record["epoch"] > self._last_epoch[number]:
            self._last_epoch[number] = record["epoch"]
            self._sessions[number].run.history.append(record)
            self.watcher.epoch_ended(number, record)

    def _advance(self, member: PlannedMember, until: int | None) -> None:
        session = self._session(member)
        training = session.training
        own = training.observers
        training.observers = [_EpochReporter(self._record_epoch, member.number), *own]
        try:
            member.stopped = session.advance(until)
        except DivergedError as cause:
            member.mark_failed(str(cause), training.epoch, training.step)
        finally:
            training.observers = own
        if member.stopped:
            self._finish(member)

    def _finish(self, member: PlannedMember) -> None:
        session = self._sessions.pop(member.number)
        if not member.run.failed:
            member.run = session.finish()
        self.watcher.finished(member.number, member.run)

    def _trainable_in_workers(self, members: Sequence[PlannedMember]) -> list[PlannedMember]:
        """Return the members that a worker can train to the same bits as this process on one thread."""
        if self._workers == 1 or workers_unavailable_because():
            return []
        return [
            member
            for member in members
            if choose_device(member.plan.recipe.engine["device"]).type == "cpu"
            and isinstance(member.training.batches, MemoryBatches)
            and not member.observers  # they watch in this process
            and (
                self._sessions[member.number].threads == 1
                if member.number in self._sessions
                else member.plan.recipe.engine["threads"] in (1, "auto")
            )
        ]

    def _process_count(self, members: Sequence[PlannedMember], until: int | None) -> int:
        """Return the number of processes to train these members in."""
        if self._workers != "auto":
            return min(self._workers, len(members))
        count = min(cores(), len(members))
        if count < 2:
            return 1
        total = longest = 0.0
        for member in members:
            seconds = self._remaining_seconds(member, until)
            total, longest = total + seconds, max(longest, seconds)
            if total - longest > MIN_PARALLEL_SECONDS:
                return count
        return 1

    def _remaining_seconds(self, member: PlannedMember, until: int | None) -> float:
        """Estimate the seconds that a member trains up to an epoch, on one thread."""
        data, optimizer = member.plan.recipe.data, member.plan.recipe.optimizer
        kind = (str(member.training.model), str(data["batch_size"]), str(optimizer["name"]))
        if kind not in self._seconds_by_kind:
            self._seconds_by_kind[kind] = _step_seconds(member)
        last = member.training.stopping.max_epochs
        session = self._sessions.get(member.number)
        done = 0 if session is None else session.training.epoch
        epochs = max(0, (last if until is None else min(last, until)) - done)
        return epochs * member.training.batches.steps_per_epoch * self._seconds_by_kind[kind]

    def _advance_in_workers(self, members: Sequence[PlannedMember], until: int | None, count: int) -> None:
        by_number = {member.number: member for member in members}
        jobs = {n: _LoopJob(self._session(member, count)) for n, member in by_number.items()}
        workers = Workers(jobs, until, count)
        returned: list[PlannedMember] = []

        def on_outcome(outcome: Outcome) -> None:
            member = by_number[outcome.number]
            training = self._sessions[outcome.number].training
            if outcome.kind == "returned":
                returned.append(member)
                return
            if outcome.state is not None:
                training.load_state_dict(outcome.state)
                member.stopped = training.stopped
            if outcome.kind == "diverged":
                member.mark_failed(outcome.message, training.epoch, training.step)
            elif outcome.kind == "lost":
                member.mark_lost(outcome.message)
            if member.stopped and member.stopped != "interrupted":
                self._finish(member)

        workers.run(lambda number, message, record: self._record_epoch(number, record), on_outcome)
        unfinished = [member for member in self.members if member.running or member.stopped == "interrupted"]
        if workers.stop_requested or any(member.stopped == "interrupted" for member in members):
            raise Interrupted(f"stopped with {len(unfinished)} of {len(self.members)} networks unfinished")
        for member in returned:
            self._advance(member, until)


def merge_loops(engines: Sequence[Engine], workers: WorkerChoice) -> list[Engine]:
    """Return the engines with all loop engines merged into one, whose members may share worker processes."""
    loops = [engine for engine in engines if isinstance(engine, LoopEngine)]
    if not loops:
        return list(engines)
    members = sorted((member for loop in loops for member in loop.members), key=lambda member: member.number)
    why = {number: reason for loop in loops for number, reason in loop.why.items()}
    others: list[Engine] = [engine for engine in engines if not isinstance(engine, LoopEngine)]
    return [*others, LoopEngine(members, loops[0].watcher, why, workers)]


def _step_seconds(member: PlannedMember) -> float:
    """Measure the seconds of a step on one thread, on copies."""
    device = choose_device(member.plan.recipe.engine["device"])
    with using_threads(1), throwaway_steps(member.plan, member.training.model, device) as step:
        return shortest_seconds(step, repeats=4)


@dataclass(frozen=True)
class _LoopJob:
    """A training as a job for a worker."""

    session: Session

    def work(self, until: int | None, workers: Workers, send: Send) -> tuple[Kind, Any, str]:
        """Train, and send a message after each epoch."""
        training = self.session.training
        reporter = _EpochReporter(lambda number, record: send({}, record), 0)
        training.observers = [StopOnRequest(workers), reporter, *training.observers]
        try:
            self.session.advance(until)
        except DivergedError as cause:
            return "diverged", training.state_dict(), str(cause)
        return "trained", training.state_dict(), ""


class _EpochReporter(Quiet):
    """Observer that reports the epochs of a member."""

    def __init__(self, report: Callable[[int, dict[str, Any]], None], number: int) -> None:
        self._report, self._number = report, number

    def epoch_ended(self, training: Any, record: dict[str, Any]) -> None:
        self._report(self._number, record)
