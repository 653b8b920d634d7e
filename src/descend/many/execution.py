"""Training planned members: built, grouped, each group by the engine that suits it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

from descend.errors import Interrupted
from descend.many.building import build
from descend.many.engine_choice import EngineChoice, choose
from descend.many.grouping import groups
from descend.many.loop_engine import WorkerChoice, merge_loops
from descend.many.planned_member import PlannedMember
from descend.many.watchers import Watcher
from descend.many.rung_decisions import RungDecisions
from descend.many.parallel_packs import parallel_packs
from descend.runs.run import Run

__all__ = ["EngineChoice", "Survivors", "train_members"]

Survivors = Callable[[int, Mapping[int, Run]], Collection[int]]
"""(epoch, runs that go on by number) -> the numbers of those that go on."""


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
) -> None:
    """Train members to their ends; see :func:`descend.train_many` for the arguments. Each gets its ``run``."""
    build(members)
    chosen = [
        one
        for group in groups(members)
        for one in choose(group, engine, watcher, folder, resume=resume, workers=workers)
    ]
    engines = merge_loops(parallel_packs(chosen, workers), workers)
    decided = RungDecisions(folder, resume=resume)
    for epoch in [*sorted(rungs), None]:
        for one in engines:
            try:
                one.advance(epoch)
            except Interrupted as cause:
                where = f"; continue with resume=True and out={str(folder)!r}" if folder is not None else ""
                raise Interrupted(f"{cause}{where}") from None
        going = {member.number: member.run for member in members if member.going}
        if epoch is not None and survivors is not None and going:
            dropped = set(going) - decided.at(epoch, partial(survivors, epoch, going))
            for one in engines:
                one.drop(dropped, "dropped")
