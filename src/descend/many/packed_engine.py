"""Members as one program: stacked modules where there are packed layers, ``torch.func.vmap`` elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from descend.data.batches import MemoryBatches
from descend.errors import Interrupted
from descend.files import json_bytes, read_json, write_atomically
from descend.many.evaluation import PackEvaluation
from descend.many.member import Member, Watcher
from descend.many.pack import CannotPack, PackMember, PackTraining, stack
from descend.many.pack.member import restore, state_of
from descend.many.pack.network import Network, StackedNetwork
from descend.many.pack.vmapped import can_vmap, vmapped
from descend.many.workers import Kind, Outcome, StopsWhenAsked, Tell, Workers
from descend.rng import forked
from descend.runs.finish import Measurements, finish_run, measurements_of
from descend.runs.run import MANIFEST, load
from descend.runs.session import begin_folder, lower_lr
from descend.training.arithmetic import arithmetic
from descend.training.checkpoint import Checkpointer, CheckpointSettings, load_checkpoint
from descend.training.loop import NotFinite, fit
from descend.training.observers import stopping_on_signals
from descend.training.records import Record
from descend.training.state import clone
from descend.training.threads import choose_threads

__all__ = ["PackedEngine"]

HISTORY = "history.jsonl"

SHORT = 2e-4
"""Seconds of a step below which a pack stays on one thread: its operations are larger than a single network's."""


class PackedEngine:
    """Trains the members of a group as one pack.

    Args:
        members: built, and alike enough to ride together.
        watcher: is told of each epoch, and of members that have stopped.
        device: of the pack.
        folder: for the pack's own checkpoints, or None.
        vmap: whether to use ``torch.func.vmap`` in place of stacked modules.
        threads: of the CPU, where they are settled; None: until :meth:`choose_threads`, those that there are.

    It is a job that a worker process can do (:class:`descend.many.workers.Job`); what comes back goes to :meth:`heard` and
    :meth:`done`.

    Raises:
        CannotPack: the members' networks cannot be run as one.
    """

    def __init__(
        self,
        members: Sequence[Member],
        watcher: Watcher,
        device: torch.device,
        folder: Path | None = None,
        *,
        vmap: bool = False,
        threads: int | None = None,
    ) -> None:
        self.members = list(members)
        self.name = "vmap" if vmap else "packed"
        self._of_number = {member.number: member for member in members}
        self._watcher, self._device, self._folder = watcher, device, folder
        self.threads = threads or torch.get_num_threads()
        self._known = dict.fromkeys(self._of_number, 0)
        self._checkpointer: Checkpointer | None = None
        riders = []
        for member in members:
            regularize, stop = member.plan.recipe.regularize, member.plan.recipe.stop
            riders.append(
                PackMember(
                    member.number,
                    member.training,
                    float(regularize["weight_decay"]),
                    float(regularize["l1"]),
                    float(regularize["l2"]),
                    (repr(member.plan.recipe.schedule), stop["max_epochs"]),
                )
            )
        network = network_of(members, device, vmap=vmap)
        validated = len(members[0].plan.prepared.validation) > 0
        with self._arithmetic():
            self.pack = PackTraining(
                riders,
                network,
                PackEvaluation(members, device) if validated else None,
                ended=self._ended,
                recorded=self._recorded,
            )

    @contextmanager
    def _arithmetic(self) -> Iterator[None]:
        with arithmetic(self.threads, self._device, self.members[0].plan.recipe.engine["denormals"]):
            yield

    def step_seconds(self, steps: int = 3) -> float:
        """The time of a step of the whole pack; the pack is left as it was."""
        with self._undone() as step, self._arithmetic():
            step()
            taken = []
            for _ in range(steps):
                began = time.perf_counter()
                step()
                taken.append(time.perf_counter() - began)
        return min(taken)

    def choose_threads(self) -> str:
        """Choose the number of CPU threads by a measurement; why it was chosen."""
        said = self.members[0].plan.recipe.engine["threads"]
        if said != "auto":
            self.threads = int(said)
            return ""
        if self._device.type != "cpu":
            return "the arithmetic runs on another device"
        with self._undone() as step, forked(self._device):
            self.threads, why = choose_threads(step, seconds=0.02, min_step_seconds=SHORT)
        return why

    @contextmanager
    def _undone(self) -> Iterator[Callable[[], None]]:
        """Steps that leave no trace."""
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
        """Write what is known before the first step, or go on from the pack's last checkpoint.

        Args:
            why: the reason for training the members like this.
            threads: the reason for the number of threads.
            resume: whether to go on.
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
                    "pack": min(self._of_number),
                },
            }
            if run.recipe.engine["threads"] == "auto":
                run.recipe = run.recipe.replace({"engine.threads": self.threads})
            if member.folder is not None and not member.resumed:
                begin_folder(member.folder, run)
        if self._folder is not None:  # a pack does not go back to a good state: without a folder, no copies
            settings = CheckpointSettings(**self.members[0].plan.recipe.checkpoint)
            self._checkpointer = Checkpointer(self._folder, settings)
            self.pack.observers = [self._checkpointer]
            state = load_checkpoint(self._folder) if resume else None
            if state is not None:
                with self._arithmetic():
                    self.pack.load_state_dict(state)
                if self.pack.stopped == "interrupted":
                    self.pack.stopped = ""
        if resume:
            self._take_finished()
        for member in self.members:
            if member.going:
                member.run.history = (
                    member.training.history
                )  # the same list: it grows while the member trains
            if member.folder is not None and member.going:
                lines = "".join(json.dumps(record) + "\n" for record in member.training.history)
                (member.folder / HISTORY).write_text(lines, encoding="utf-8")

    def _take_finished(self) -> None:
        """Members that had stopped before: their runs as they were written."""
        going = {rider.number for rider in self.pack.riders if not rider.training.stopped}
        for member in self.members:
            if member.folder is None or member.number in going:
                continue
            found = read_json(member.folder / "metrics.json")
            member.stopped = str(found.get("stopped", "finished"))
            if found.get("status") == "failed":
                member.run.metrics = found
            else:
                member.run = load(member.folder, model=member.run.model)

    @property
    def going(self) -> bool:
        """Whether some member trains on."""
        return any(member.going for member in self.members)

    def advance(self, until: int | None) -> None:
        """Train all members that go on up to an epoch; None: to their ends.

        Raises:
            Interrupted: a signal asked to stop; a checkpoint was saved if there is a folder.
        """
        self._fit(until)
        if self.pack.stopped == "interrupted":
            raise Interrupted(f"stopped in epoch {self.pack.epoch + 1}")

    def _fit(self, until: int | None) -> None:
        with self._arithmetic():
            try:
                with stopping_on_signals(self.pack):
                    fit(self.pack, until=until)
            except NotFinite:  # within an epoch; its end tells who
                self.pack.close_epoch(lambda: self.pack.seconds)
            finally:
                if self._checkpointer is not None:
                    self._checkpointer.close()

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop some members where they are, with their best weights so far."""
        with self._arithmetic():
            self.pack.drop(numbers, reason)

    def work(self, until: int | None, workers: Workers, tell: Tell) -> tuple[Kind, Any, str]:
        """:meth:`advance` in a worker, which tells of epochs and of members that have stopped; these it measures."""

        def recorded(number: int, record: Record) -> None:
            tell({"is": "epoch", "member": number}, record)

        def ended(rider: PackMember) -> None:
            member, training = self._of_number[rider.number], rider.training
            found = None
            if not rider.failure:
                found = measurements_of(member.run, training, member.plan, self._device, tested=member.tested)
            left = {"rider": state_of(rider), "best": training.best, "measurements": found}
            # It is written before the pack's next checkpoint is, in which it may not be any more.
            tell({"is": "ended", "member": rider.number, "wait": self._folder is not None}, left)

        pack = self.pack
        pack.recorded, pack.ended = recorded, ended
        pack.observers = [StopsWhenAsked(workers), *pack.observers]
        self._fit(until)
        return "trained", None if pack.stopped == "finished" else pack.state_dict(), ""

    def heard(self, said: Mapping[str, Any], state: Any) -> None:
        """Take up what a worker tells while it works."""
        member = self._of_number[said["member"]]
        if said["is"] == "epoch":
            member.training.history.append(state)  # for those who watch the run, whose it is
            self._recorded(member.number, state)
            return
        (rider,) = (rider for rider in self.pack.riders if rider.number == member.number)
        restore(rider, state["rider"])
        rider.training.best = state["best"]
        with self._arithmetic():
            self._ended(rider, state["measurements"])

    def done(self, outcome: Outcome) -> None:
        """Go on from what a worker has left."""
        if outcome.kind == "lost":
            self._lose(outcome.message)
        elif outcome.kind == "returned":
            for rider in self.pack.riders:  # those who go on are as they were before
                del rider.training.history[rider.training.epoch :]
        elif outcome.state is None:
            self.pack.stopped = "finished"
        else:
            with self._arithmetic():
                self.pack.load_state_dict(outcome.state)
            for member in self.members:
                if member.going:
                    member.run.history = member.training.history

    def _lose(self, cause: str) -> None:
        self.pack.stopped = "finished"
        for member in self.members:
            if member.going:
                member.lose(cause)
                self._watcher.finished(member.number, member.run)

    def _recorded(self, number: int, record: Record) -> None:
        """Write and tell of an epoch, once: what a worker has given back starts over."""
        if record["epoch"] <= self._known[number]:
            return
        self._known[number] = record["epoch"]
        folder = self._of_number[number].folder
        if folder is not None:
            with (folder / HISTORY).open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        self._watcher.epoch_ended(number, record)

    def _ended(self, rider: PackMember, measurements: Measurements | None = None) -> None:
        """Write a member that has stopped, and measure it where no worker has."""
        member = self._of_number[rider.number]
        run, training = member.run, rider.training
        member.stopped = training.stopped
        run.history = training.history
        if member.folder is not None and (member.folder / MANIFEST).exists():
            # It was written before the pack's last checkpoint was: what it gives now are the same bits.
            member.run = load(member.folder, model=run.model)
        elif rider.failure:
            member.fail(
                f"Training diverged: {rider.failure}. Lower the learning rate: "
                f"--set optimizer.lr={lower_lr(run)}",
                training.epoch,
                training.step,
            )
            if member.folder is not None:
                write_atomically(member.folder / "metrics.json", json_bytes(run.metrics))
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


def network_of(members: Sequence[Member], device: torch.device, *, vmap: bool) -> Network:
    """The members' networks as one.

    Raises:
        CannotPack: they cannot be.
    """
    models = [member.training.model for member in members]
    arithmetic = autocast(members[0].plan.recipe.engine["precision"], device)
    if not vmap:
        return StackedNetwork(stack(models), arithmetic)
    batches = members[0].training.batches
    assert isinstance(batches, MemoryBatches)
    rows = batches.tensors[0][:4]
    reason = can_vmap(models[0], rows, arithmetic)
    if reason:
        raise CannotPack(reason)
    return vmapped(models, rows, arithmetic)


def autocast(precision: str, device: torch.device) -> Callable[[], Any] | None:
    """The arithmetic of a precision; None for the weights' own."""
    if precision != "bfloat16":
        return None
    return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
