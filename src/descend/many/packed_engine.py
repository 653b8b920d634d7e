"""The engine that trains members as one program: by stacked layers, or by ``torch.vmap``."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from descend.data.batches import MemoryBatches
from descend.errors import Interrupted
from descend.interface import setting
from descend.many.pack import CannotPack, PackMember, PackTraining, stack
from descend.many.pack.member import member_state, restore_member
from descend.many.pack.network import Network, StackedNetwork
from descend.many.pack.vmapped_network import cannot_vmap_because, vmap_models
from descend.many.pack_evaluation import PackEvaluation
from descend.many.pack_observers import PackObservers
from descend.many.pack_resume import continue_pack
from descend.many.planned_member import PlannedMember
from descend.many.watchers import Watcher
from descend.many.workers import Kind, Outcome, Send, StopOnRequest, Workers
from descend.rng import forked
from descend.runs.finish import Measurements, finish_run, measurements_of
from descend.runs.folder import HISTORY, is_finished, write_failure
from descend.runs.run import load
from descend.runs.session import begin_folder, lower_lr
from descend.training.arithmetic import arithmetic
from descend.training.checkpoint import Checkpointer, CheckpointSettings, load_checkpoint
from descend.training.loop import NotFinite, fit
from descend.training.observers import stopping_on_signals
from descend.training.records import Record
from descend.training.state import clone
from descend.training.threads import choose_threads
from descend.training.timing import shortest_seconds

__all__ = ["PackedEngine"]


MIN_PACKED_STEP_SECONDS = 2e-4
"""Seconds of a step below which a pack stays on one thread. Its operations are larger than those of a single network, so the
limit is lower."""


class PackedEngine:
    """Trains the members of a group as one pack.

    Args:
        members: built members that can be packed together.
        watcher: notified of epochs and ends.
        device: of the pack.
        folder: for the pack's own checkpoints, or None.
        vmap: whether to use ``torch.vmap`` instead of stacked layers.
        threads: number of CPU threads; None for the current number, until :meth:`choose_threads` is called.

    It is a :class:`descend.many.workers.Job`, so a worker process can execute it. The worker's messages are handled by
    :meth:`on_message`, its outcome by :meth:`on_outcome`.

    Raises:
        CannotPack: the members' networks cannot be run as one.
    """

    def __init__(
        self,
        members: Sequence[PlannedMember],
        watcher: Watcher,
        device: torch.device,
        folder: Path | None = None,
        *,
        vmap: bool = False,
        threads: int | None = None,
    ) -> None:
        self.members = list(members)
        self.name = "vmap" if vmap else "packed"
        self._by_number = {member.number: member for member in members}
        self._watcher, self._device, self._folder = watcher, device, folder
        self.threads = threads or torch.get_num_threads()
        self._last_epoch = dict.fromkeys(self._by_number, 0)
        self._checkpointer: Checkpointer | None = None
        pack_members = []
        for member in members:
            regularize, stop = member.plan.recipe.regularize, member.plan.recipe.stop
            pack_members.append(
                PackMember(
                    member.number,
                    member.training,
                    float(regularize["weight_decay"]),
                    float(regularize["l1"]),
                    float(regularize["l2"]),
                    (repr(member.plan.recipe.schedule), stop["max_epochs"]),
                )
            )
        network = _network_of(members, device, vmap=vmap)
        validated = len(members[0].plan.prepared.validation) > 0
        with self._arithmetic():
            self.pack = PackTraining(
                pack_members,
                network,
                PackEvaluation(members, device) if validated else None,
                ended=self._member_ended,
                recorded=self._epoch_recorded,
            )
        observers = {member.number: member.observers for member in members}
        self._observers = PackObservers(observers) if any(observers.values()) else None
        if self._observers is not None:
            self.pack.observed, self.pack.observers = self._observers.observed, [self._observers]
        limits = {id(each): each for member in members for each in member.limits}
        self.pack.observers = [*self.pack.observers, *limits.values()]

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        with arithmetic(self.threads, self._device, self.members[0].plan.recipe.engine["denormals"]):
            yield

    def step_seconds(self, steps: int = 3) -> float:
        """Measure the seconds of a step of the whole pack; the state of the pack does not change."""
        with self._throwaway_steps() as step, self._arithmetic():
            step()
            return shortest_seconds(step, repeats=steps)

    def choose_threads(self) -> str:
        """Choose the number of CPU threads by a measurement; return the reason."""
        requested = self.members[0].plan.recipe.engine["threads"]
        if requested != "auto":
            self.threads = int(requested)
            return ""
        if self._device.type != "cpu":
            return "the arithmetic runs on another device"
        with self._throwaway_steps() as step, forked(self._device):
            self.threads, why = choose_threads(step, seconds=0.02, min_step_seconds=MIN_PACKED_STEP_SECONDS)
        return why

    @contextmanager
    def _throwaway_steps(self) -> Iterator[Callable[[], None]]:
        """Context with a function that takes a step; on exit the state of the pack is restored."""
        pack = self.pack
        before = clone(pack.state_dict())
        batches = next(pack.batches.epoch(0))
        advance = pack.stepper()

        def step() -> None:
            advance(batches)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)

        try:
            yield step
        finally:
            pack.load_state_dict(before)

    def begin(self, why: str, threads: str, *, resume: bool) -> None:
        """Write the run folders before the first step, or resume from the pack's last checkpoint.

        Args:
            why: the reason for this engine.
            threads: the reason for the number of threads.
            resume: whether to resume.
        """
        for member in self.members:
            run = member.run
            run.environment |= {
                "threads": self.threads,
                "threads_reason": threads,
                "engine": {
                    "name": self.name,
                    "why": why,
                    "members": len(self.members),
                    "pack": min(self._by_number),
                },
            }
            if run.recipe.engine["threads"] == "auto":
                run.recipe = run.recipe.replace({"engine.threads": self.threads})
            if member.folder is not None and not member.resumed:
                begin_folder(member.folder, run)
        if self._folder is not None:  # a pack never rolls back, so without a folder it needs no checkpoints
            settings = CheckpointSettings(**self.members[0].plan.recipe.checkpoint)
            self._checkpointer = Checkpointer(self._folder, settings)
            self.pack.observers = [*self.pack.observers, self._checkpointer]
            state = load_checkpoint(self._folder) if resume else None
            if state is not None:
                with self._arithmetic():
                    self.pack.load_state_dict(state)
        if resume:
            with self._arithmetic():
                continue_pack(self.pack, self.members)
        for member in self.members:
            if member.running:
                # The same list: it grows during training.
                member.run.history = member.training.history
            if member.folder is not None and member.running:
                lines = "".join(json.dumps(record) + "\n" for record in member.training.history)
                (member.folder / HISTORY).write_text(lines, encoding="utf-8")

    @property
    def running(self) -> bool:
        """Whether some member has not stopped yet."""
        return any(member.running for member in self.members)

    @property
    def interrupted(self) -> bool:
        """Whether a signal has stopped the pack."""
        return self.pack.stopped == "interrupted"

    def advance(self, until: int | None) -> None:
        """Train all running members up to the end of an epoch; None: until they have stopped.

        Raises:
            Interrupted: a signal requested to stop; a checkpoint was saved if there is a folder.
        """
        self._fit(until)
        if self.interrupted:
            raise Interrupted(f"stopped in epoch {self.pack.epoch + 1}")

    def _fit(self, until: int | None) -> None:
        with self._arithmetic():
            try:
                with stopping_on_signals(self.pack):
                    fit(self.pack, until=until)
            except NotFinite:  # within an epoch; its end determines which members have failed
                self.pack.close_epoch(lambda: self.pack.seconds)
            finally:
                if self._checkpointer is not None:
                    self._checkpointer.close()

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop the members with these numbers at once, with their best weights so far."""
        with self._arithmetic():
            self.pack.drop(numbers, reason)

    def work(self, until: int | None, workers: Workers, send: Send) -> tuple[Kind, Any, str]:
        """Train in a worker, with messages about epochs and stopped members, which the worker evaluates."""

        def recorded(number: int, record: Record) -> None:
            send({"event": "epoch", "member": number}, record)

        def ended(pack_member: PackMember) -> None:
            member, training = self._by_number[pack_member.number], pack_member.training
            measurements = None
            if not pack_member.failure:
                measurements = measurements_of(
                    member.run, training, member.plan, self._device, tested=member.tested
                )
            result = {
                "member": member_state(pack_member),
                "best": training.best,
                "measurements": measurements,
            }
            # The parent writes its run before the worker writes the next checkpoint, which may no longer contain it.
            send({"event": "ended", "member": pack_member.number, "wait": self._folder is not None}, result)

        pack = self.pack
        pack.recorded, pack.ended = recorded, ended
        pack.observers = [StopOnRequest(workers), *pack.observers]
        self._fit(until)
        return "trained", None if pack.stopped == "finished" else pack.state_dict(), ""

    def on_message(self, message: Mapping[str, Any], state: Any) -> None:
        """Handle a message from a worker that executes :meth:`work`."""
        member = self._by_number[message["member"]]
        if message["event"] == "epoch":
            member.training.history.append(state)  # the run shares this list, and watchers may read it
            self._epoch_recorded(member.number, state)
            return
        (pack_member,) = (
            pack_member for pack_member in self.pack.members if pack_member.number == member.number
        )
        restore_member(pack_member, state["member"])
        pack_member.training.best = state["best"]
        with self._arithmetic():
            self._member_ended(pack_member, state["measurements"])

    def on_outcome(self, outcome: Outcome) -> None:
        """Continue from the outcome of a worker."""
        if outcome.kind == "lost":
            self._mark_lost(outcome.message)
        elif outcome.kind == "returned":
            for pack_member in self.pack.members:  # the state of running members has not changed
                del pack_member.training.history[pack_member.training.epoch :]
        elif outcome.state is None:
            self.pack.stopped = "finished"
        else:
            with self._arithmetic():
                self.pack.load_state_dict(outcome.state)
            for member in self.members:
                if member.running:
                    member.run.history = member.training.history

    def _mark_lost(self, cause: str) -> None:
        self.pack.stopped = "finished"
        for member in self.members:
            if member.running:
                member.mark_lost(cause)
                self._watcher.finished(member.number, member.run)

    def _epoch_recorded(self, number: int, record: Record) -> None:
        """Write the record of an epoch and notify the watcher, once: a pack that a worker has returned starts again."""
        if record["epoch"] <= self._last_epoch[number]:
            return
        self._last_epoch[number] = record["epoch"]
        folder = self._by_number[number].folder
        if folder is not None:
            with (folder / HISTORY).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        self._watcher.epoch_ended(number, record)

    def _member_ended(self, pack_member: PackMember, measurements: Measurements | None = None) -> None:
        """Write the run of a member that has stopped; evaluate it if no worker has."""
        member = self._by_number[pack_member.number]
        run, training = member.run, pack_member.training
        member.stopped = training.stopped
        run.history = training.history
        if self._observers is not None:
            self._observers.member_ended(pack_member)
        if member.folder is not None and is_finished(member.folder):
            # It was written before the pack's last checkpoint: its results would be the same bits.
            member.run = load(member.folder, model=run.model)
        elif pack_member.failure:
            member.mark_failed(
                f"Training diverged: {pack_member.failure}. Lower the learning rate: "
                f"{setting('optimizer.lr', float(lower_lr(run)))}",
                training.epoch,
                training.step,
            )
            if member.folder is not None:
                write_failure(member.folder, run.metrics)
        else:
            finish_run(
                run,
                training,
                member.plan,
                self._device,
                tested=member.tested,
                measurements=measurements,
            )
        self._watcher.finished(member.number, member.run)


def _network_of(members: Sequence[PlannedMember], device: torch.device, *, vmap: bool) -> Network:
    """Return the networks of the members as one.

    Raises:
        CannotPack: they cannot be run as one.
    """
    models = [member.training.model for member in members]
    arithmetic = _autocast(members[0].plan.recipe.engine["precision"], device)
    if not vmap:
        return StackedNetwork(stack(models), arithmetic)
    batches = members[0].training.batches
    assert isinstance(batches, MemoryBatches)
    rows = batches.tensors[0][:4]
    reason = cannot_vmap_because(models[0], rows, arithmetic)
    if reason:
        raise CannotPack(reason)
    return vmap_models(models, rows, arithmetic)


def _autocast(precision: str, device: torch.device) -> Callable[[], Any] | None:
    """Return the autocast context of a precision; None for the precision of the weights."""
    if precision != "bfloat16":
        return None
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
