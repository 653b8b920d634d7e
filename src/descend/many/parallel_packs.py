"""Packs side by side: each in a process of its own, on one thread.

Two threads that share the operations of one pack wait for each other at every one of them, some thirty times a step, and hand
each other what they have computed. Two processes that train a half of the members each do neither. On two cores 20 networks of
9,000 weights take a fifth less time so; and where another program wants a core, the threads wait at every operation for
the one that has been put aside, and take four to eight times as long, while processes take twice as long at most.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from descend.data.batches import MemoryBatches
from descend.errors import Interrupted
from descend.many.loop_engine import WorkerChoice
from descend.many.engine import Engine
from descend.many.planned_member import PlannedMember
from descend.many.packed_engine import PackedEngine
from descend.many.workers import Outcome, Workers, workers_unavailable_because
from descend.runs.plan import choose_device
from descend.training.threads import cores

__all__ = ["ParallelPacks", "has_core_for_each", "choose_process_count", "remaining_seconds", "parallel_packs"]

MIN_PACK_SIZE = 4
"""Members of a pack at least: with fewer, what a step costs besides arithmetic is shared by too few."""

MIN_SAVING = 0.3
"""Seconds that processes must save, about. A start takes some hundredths of one, and what is known beforehand is rough."""

MIN_SAVING_OF_LOOPS = 3.0
"""The same where trainings alone take the place of a pack: loops measure once more, and would else be one after another."""

STEP_OVERHEAD = 3e-4
"""Seconds of a step of a small pack that are not arithmetic."""

FLOPS_PER_SECOND = 5e10
"""Operations in floating point that a core does in a second, about, in products of small matrices."""


def choose_process_count(members: Sequence[PlannedMember], workers: WorkerChoice) -> int:
    """In how many packs, each in a process, members that ride together are best trained; 1 where it is not worth it.

    Args:
        members: of one group.
        workers: processes that were asked for.
    """
    if workers == 1 or not _may_fork(members):
        return 1
    count = max(1, min(cores() if workers == "auto" else workers, len(members) // MIN_PACK_SIZE))
    if workers == "auto" and remaining_seconds(members) * (1 - 1 / count) < MIN_SAVING:
        return 1
    return count


def has_core_for_each(members: Sequence[PlannedMember], workers: WorkerChoice) -> bool:
    """Whether there is a core for each of some members, and so much to do that processes are certain to be worth it."""
    if workers != "auto" or not _may_fork(members) or len(members) > cores():
        return False
    return remaining_seconds(members[:1]) * (len(members) - 1) > MIN_SAVING_OF_LOOPS


def remaining_seconds(members: Sequence[PlannedMember], until: int | None = None) -> float:
    """About how long a pack of these members trains on one thread, up to an epoch or to its end.

    Of convolutions, which use a weight many times, it knows too little: their packs take longer.
    """
    going = [member for member in members if member.going]
    if not going:
        return 0.0
    training = going[0].training
    batches = training.batches
    assert isinstance(batches, MemoryBatches)  # the others ride with nobody
    last = max(member.training.stopping.max_epochs for member in going)
    epochs = max(0, (last if until is None else min(last, until)) - training.epoch)
    weights = sum(
        module.weight.numel() for module in training.model.modules() if isinstance(module, nn.Linear)
    )
    rows = sum(batches.order.sizes())
    return epochs * (
        batches.steps_per_epoch * STEP_OVERHEAD + len(going) * rows * 6 * weights / FLOPS_PER_SECOND
    )  # 2 operations a weight and row, three times: forwards, and two backwards


def _may_fork(members: Sequence[PlannedMember]) -> bool:
    engine = members[0].plan.recipe.engine
    on_cpu = choose_device(engine["device"]).type == "cpu"
    return on_cpu and engine["threads"] in (1, "auto") and not workers_unavailable_because()


class ParallelPacks:
    """Packs that are trained at the same time, each by a worker process.

    Args:
        packs: on one thread each.
        workers: processes that were asked for; "auto" is one for each core.
    """

    def __init__(self, packs: Sequence[PackedEngine], workers: WorkerChoice) -> None:
        self.packs, self._workers = list(packs), workers
        self.members = [member for pack in packs for member in pack.members]

    def advance(self, until: int | None) -> None:
        """Train all members that go on up to an epoch; None: to their ends.

        Raises:
            Interrupted: a signal asked to stop; checkpoints were saved if there is a folder.
        """
        going = {number: pack for number, pack in enumerate(self.packs) if pack.going}
        count = self._processes(list(going.values()), until)
        here = list(going.values())
        if count > 1:
            workers, here = Workers(going, until, count), []

            def done(outcome: Outcome) -> None:
                pack = going[outcome.number]
                pack.done(outcome)
                if outcome.kind == "returned" and pack.going:
                    here.append(pack)

            workers.run(lambda number, said, state: going[number].heard(said, state), done)
            left = [member for member in self.members if member.going]
            if workers.stop_requested or any(pack.pack.stopped == "interrupted" for pack in going.values()):
                raise Interrupted(f"stopped with {len(left)} of {len(self.members)} networks not done")
        for pack in here:
            pack.advance(until)

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop some members where they are; the others do not notice."""
        for pack in self.packs:
            pack.drop(numbers, reason)

    def _processes(self, packs: Sequence[PackedEngine], until: int | None) -> int:
        if self._workers != "auto":
            return min(self._workers, len(packs))
        count = min(cores(), len(packs))
        ahead = [remaining_seconds(pack.members, until) for pack in packs]
        return count if count > 1 and sum(ahead) - max(ahead) >= MIN_SAVING else 1


def parallel_packs(engines: Sequence[Engine], workers: WorkerChoice) -> list[Engine]:
    """Engines with those packs together that can be trained at the same time: on the CPU, on one thread."""
    fit = [
        engine
        for engine in engines
        if isinstance(engine, PackedEngine)
        and engine.threads == 1
        and choose_device(engine.members[0].plan.recipe.engine["device"]).type == "cpu"
    ]
    if workers == 1 or workers_unavailable_because() or len(fit) < 2:
        return list(engines)
    return [ParallelPacks(fit, workers), *(engine for engine in engines if engine not in fit)]
