"""Packs trained at the same time: each in a process of its own, on one thread.

Two threads that share the operations of one pack synchronize at every operation, some thirty times per step, and exchange
their results each time. Two processes that train half of the members each do neither. On two cores, 20 networks of 9,000
weights take a fifth less time this way. If another program occupies a core, the threads wait at every operation for the
one that was preempted and take four to eight times as long, while processes take at most twice as long.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from descend.data.batches import MemoryBatches
from descend.errors import Interrupted
from descend.many.engine import Engine
from descend.many.loop_engine import WorkerChoice
from descend.many.packed_engine import PackedEngine
from descend.many.planned_member import PlannedMember
from descend.many.workers import Outcome, Workers, workers_unavailable_because
from descend.runs.plan import choose_device
from descend.training.threads import cores

__all__ = ["ParallelPacks", "choose_process_count", "has_core_for_each", "merge_packs", "remaining_seconds"]

MIN_PACK_SIZE = 4
"""Minimum number of members of a pack: with fewer, the overhead of a step is shared by too few."""

MIN_SECONDS_SAVED = 0.3
"""Seconds that processes must save, by a rough estimate. Starting one takes some hundredths of a second."""

MIN_SECONDS_SAVED_BY_LOOPS = 3.0
"""The same for solo trainings in place of a pack: the loop engine measures again, and might use no processes then."""

STEP_OVERHEAD = 3e-4
"""Seconds of a step of a small pack that are not arithmetic."""

FLOPS_PER_SECOND = 5e10
"""Approximate floating-point operations per second of a core, in products of small matrices."""


def choose_process_count(members: Sequence[PlannedMember], workers: WorkerChoice) -> int:
    """Return the number of packs, each in a process, to split members into; 1 if splitting is not worth it.

    Args:
        members: of one group.
        workers: the requested number of processes.
    """
    if workers == 1 or not _may_fork(members):
        return 1
    count = max(1, min(cores() if workers == "auto" else workers, len(members) // MIN_PACK_SIZE))
    if workers == "auto" and remaining_seconds(members) * (1 - 1 / count) < MIN_SECONDS_SAVED:
        return 1
    return count


def has_core_for_each(members: Sequence[PlannedMember], workers: WorkerChoice) -> bool:
    """Return whether there is a core for each member, and enough work for solo trainings in processes to be faster."""
    if workers != "auto" or not _may_fork(members) or len(members) > cores():
        return False
    return remaining_seconds(members[:1]) * (len(members) - 1) > MIN_SECONDS_SAVED_BY_LOOPS


def remaining_seconds(members: Sequence[PlannedMember], until: int | None = None) -> float:
    """Estimate the seconds that a pack of these members trains on one thread, up to an epoch or until it stops.

    The estimate is too low for convolutions, which use each weight many times.
    """
    running = [member for member in members if member.running]
    if not running:
        return 0.0
    training = running[0].training
    batches = training.batches
    assert isinstance(batches, MemoryBatches)  # other batches cannot be packed
    last = max(member.training.stopping.max_epochs for member in running)
    epochs = max(0, (last if until is None else min(last, until)) - training.epoch)
    weights = sum(
        module.weight.numel() for module in training.model.modules() if isinstance(module, nn.Linear)
    )
    rows = sum(batches.order.sizes())
    # 2 operations per weight and row, three times: one forward and two backward products.
    arithmetic = len(running) * rows * 6 * weights / FLOPS_PER_SECOND
    return epochs * (batches.steps_per_epoch * STEP_OVERHEAD + arithmetic)


def _may_fork(members: Sequence[PlannedMember]) -> bool:
    if any(member.observers for member in members):  # they watch in this process
        return False
    engine = members[0].plan.recipe.engine
    on_cpu = choose_device(engine["device"]).type == "cpu"
    return on_cpu and engine["threads"] in (1, "auto") and not workers_unavailable_because()


class ParallelPacks:
    """An engine that trains packs at the same time, each in a worker process.

    Args:
        packs: on one thread each.
        workers: the requested number of processes; "auto" is one per core.
    """

    def __init__(self, packs: Sequence[PackedEngine], workers: WorkerChoice) -> None:
        self.packs, self._workers = list(packs), workers
        self.members = [member for pack in packs for member in pack.members]

    def advance(self, until: int | None) -> None:
        """Train all running members up to the end of an epoch; None: until they have stopped.

        Raises:
            Interrupted: a signal requested to stop; checkpoints were saved if there is a folder.
        """
        running = {number: pack for number, pack in enumerate(self.packs) if pack.running}
        count = self._process_count(list(running.values()), until)
        in_this_process = list(running.values())
        if count > 1:
            workers, in_this_process = Workers(running, until, count), []

            def on_outcome(outcome: Outcome) -> None:
                pack = running[outcome.number]
                pack.on_outcome(outcome)
                if outcome.kind == "returned" and pack.running:
                    in_this_process.append(pack)

            workers.run(lambda number, message, state: running[number].on_message(message, state), on_outcome)
            unfinished = [member for member in self.members if member.running]
            if workers.stop_requested or any(pack.interrupted for pack in running.values()):
                raise Interrupted(
                    f"stopped with {len(unfinished)} of {len(self.members)} networks unfinished"
                )
        for pack in in_this_process:
            pack.advance(until)

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop the members with these numbers at once; the results of the others do not change."""
        for pack in self.packs:
            pack.drop(numbers, reason)

    def _process_count(self, packs: Sequence[PackedEngine], until: int | None) -> int:
        if self._workers != "auto":
            return min(self._workers, len(packs))
        count = min(cores(), len(packs))
        seconds = [remaining_seconds(pack.members, until) for pack in packs]
        return count if count > 1 and sum(seconds) - max(seconds) >= MIN_SECONDS_SAVED else 1


def merge_packs(engines: Sequence[Engine], workers: WorkerChoice) -> list[Engine]:
    """Return the engines with those packs merged that can be trained at the same time: on the CPU, on one thread."""
    mergeable = [
        engine
        for engine in engines
        if isinstance(engine, PackedEngine)
        and engine.threads == 1
        and not any(member.observers for member in engine.members)  # they watch in this process
        and choose_device(engine.members[0].plan.recipe.engine["device"]).type == "cpu"
    ]
    if workers == 1 or workers_unavailable_because() or len(mergeable) < 2:
        return list(engines)
    return [ParallelPacks(mergeable, workers), *(engine for engine in engines if engine not in mergeable)]
