"""A member: one variant among those that are trained together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from descend.files import read_json
from descend.runs.plan import Plan
from descend.runs.run import Run
from descend.training.loop import Training

__all__ = ["Engine", "Member", "Watcher"]


@dataclass(eq=False)
class Member:
    """One variant: what it is, and what came of it.

    Args:
        number: its place among the recipes.
        plan: data and resolved recipe.
        folder: of its run, or None.
        resumed: whether to go on from what is in the folder.
        tested: whether the test part is measured at the end.
        stopped: why it stopped; empty while it goes on.
        engine_before: what trained it before it was interrupted; empty where it had not begun.
        pack_before: the lowest number of the pack that it rode in then, if any.

    ``run`` and ``training`` are set when it is built; the run's history grows while it trains.
    """

    number: int
    plan: Plan
    folder: Path | None = None
    resumed: bool = False
    tested: bool = True
    stopped: str = ""
    engine_before: str = ""
    pack_before: int | None = None
    run: Run = field(init=False)
    training: Training = field(init=False)

    def take_up(self, folder: Path) -> None:
        """Note what trained it before, as its folder says."""
        engine = read_json(folder / "environment.json").get("engine", {})
        # A pack names itself in what it begins; what trains alone does so in the end.
        self.engine_before, self.pack_before = str(engine.get("name", "loop")), engine.get("pack")

    @property
    def going(self) -> bool:
        """Whether it trains on."""
        return not self.stopped

    def lose(self, cause: str) -> None:
        """Note that its process was ended from outside; what it had done is in the run's history."""
        seen = self.run.history
        message = f"Training was cut off in epoch {len(seen) + 1}: {cause}"
        self.fail(message, len(seen), seen[-1]["step"] if seen else 0, reason="lost")

    def fail(self, message: str, epochs: int, steps: int, reason: str = "diverged") -> None:
        """Note that it diverged, or failed for another reason."""
        self.stopped = reason
        self.run.metrics = {
            "status": "failed",
            "stopped": reason,
            "message": message,
            "task": self.run.schema.task,
            "epochs": epochs,
            "steps": steps,
        }


class Watcher(Protocol):
    """Watches many trainings; never steers them."""

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """The member of this number has done an epoch; ``record`` is the line of its history."""

    def finished(self, number: int, run: Run) -> None:
        """The member of this number has stopped, for whatever reason, and is measured."""


class Engine(Protocol):
    """Trains the members of one group."""

    members: list[Member]

    def advance(self, until: int | None) -> None:
        """Train all members that go on up to an epoch; None: to their ends."""

    def drop(self, numbers: set[int], reason: str) -> None:
        """Stop some members where they are; the others do not notice."""


@dataclass
class Watchers:
    """Several watchers as one."""

    each: list[Watcher] = field(default_factory=list)

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Tell all."""
        for one in self.each:
            one.epoch_ended(number, record)

    def finished(self, number: int, run: Run) -> None:
        """Tell all."""
        for one in self.each:
            one.finished(number, run)
