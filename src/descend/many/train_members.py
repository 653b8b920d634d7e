"""Training planned members: grouped, each group by the engine that suits it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

from descend.many.loop_engine import LoopEngine
from descend.many.member import Engine, Member, Watcher
from descend.run import Run

__all__ = ["EngineChoice", "Survivors", "train_members"]

EngineChoice = Literal["auto", "packed", "vmap", "loop"]
Survivors = Callable[[int, Mapping[int, Run]], Collection[int]]
"""(epoch, runs that go on by number) -> the numbers of those that go on."""


def train_members(
    members: Sequence[Member],
    watcher: Watcher,
    engine: EngineChoice = "auto",
    rungs: Sequence[int] = (),
    survivors: Survivors | None = None,
) -> None:
    """Train members to their ends; see :func:`descend.train_many` for the arguments. Each gets its ``run``."""
    engines: list[Engine] = [LoopEngine(members, watcher)]
    for epoch in [*sorted(rungs), None]:
        for one in engines:
            one.advance(epoch)
        going = {member.number: member.run for member in members if member.going}
        if epoch is not None and survivors is not None and going:
            dropped = set(going) - set(survivors(epoch, going))
            for one in engines:
                one.drop(dropped, "dropped")
