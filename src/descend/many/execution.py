"""Training of planned members: they are built, grouped, and each group is trained by a suitable engine."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from descend.errors import Interrupted, ObserverError
from descend.many.building import build_members
from descend.many.engine_choice import EngineChoice, choose_engines
from descend.many.grouping import group_members
from descend.many.loop_engine import WorkerChoice, merge_loops
from descend.many.parallel_packs import merge_packs
from descend.many.planned_member import PlannedMember
from descend.many.rung_decisions import RungDecisions
from descend.many.watchers import Watcher
from descend.runs.run import Run
from descend.training.loop import STOPPED

__all__ = ["EngineChoice", "Survivors", "train_members"]

Survivors = Callable[[int, Mapping[int, Run]], Collection[int]]
"""(epoch, running members' runs by number) -> the numbers of those that continue."""


def train_members(
    members: Sequence[PlannedMember],
    watcher: Watcher,
    engine: EngineChoice = "auto",
    rungs: Sequence[int] = (),
    survivors: Survivors | None = None,
    folder: Path | None = None,
    *,
    resume: bool = False,
    workers: WorkerChoice = "auto",
    finishing: bool = False,
) -> None:
    """Train members until each has stopped, and set their runs; for the arguments see :func:`descend.train_many`.

    With ``finishing`` nothing is trained: the members are evaluated with their best weights so far.

    Raises:
        Interrupted: a signal requested to stop.
    """
    build_members(members)
    chosen = [
        one
        for group in group_members(members)
        for one in choose_engines(group, engine, watcher, folder, resume=resume, workers=workers)
    ]
    engines = merge_loops(merge_packs(chosen, workers), workers)
    if finishing:
        for one in engines:
            one.drop({member.number for member in one.members if member.running}, STOPPED)
        return
    decisions = RungDecisions(folder, resume=resume)
    for epoch in [*sorted(rungs), None]:
        for one in engines:
            remedy = f"; continue with resume=True and out={str(folder)!r}" if folder is not None else ""
            try:
                one.advance(epoch)
            except Interrupted as cause:
                raise Interrupted(f"{cause}{remedy}", folder=folder) from None
            except ObserverError as error:
                raise ObserverError(str(error).partition("; continue")[0] + remedy) from error.__cause__
        running = {member.number: member.run for member in members if member.running}
        if epoch is not None and survivors is not None and running:
            dropped = set(running) - decisions.at(epoch, partial(survivors, epoch, running))
            for one in engines:
                one.drop(dropped, "dropped")
