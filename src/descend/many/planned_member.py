"""A planned member: one of the variants trained together, with its plan, run and training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from descend.data.batches import Batches
from descend.files import read_json
from descend.runs.folder import ENVIRONMENT
from descend.runs.plan import Plan
from descend.runs.run import Run
from descend.training.loop import Observer, Training

__all__ = ["PlannedMember"]


@dataclass(eq=False)
class PlannedMember:
    """One variant: its plan, and the run that results from it.

    If it is trained in a pack, a :class:`descend.many.pack.PackMember` refers to its training there.

    Args:
        number: its index among the recipes.
        plan: data and resolved recipe.
        folder: of its run, or None.
        resumed: whether to continue from the contents of the folder.
        tested: whether the test part is evaluated at the end.
        stopped: why it stopped; empty while it is running.
        engine_before: the engine that trained it before an interruption; empty if its training had not begun.
        pack_before: the lowest member number of the pack that trained it then, if any.
        observers: notified of the events of its training, in this process.
        limits: observers that may request it to stop, in the process that trains it.
        batches: its training batches, instead of those the plan describes.

    ``run`` and ``training`` are set by :func:`descend.many.building.build_members`; the history of the run grows during
    training.
    """

    number: int
    plan: Plan
    folder: Path | None = None
    resumed: bool = False
    tested: bool = True
    stopped: str = ""
    engine_before: str = ""
    pack_before: int | None = None
    observers: Sequence[Observer] = ()
    limits: Sequence[Observer] = ()
    batches: Batches | None = None
    run: Run = field(init=False)
    training: Training = field(init=False)

    def read_engine(self, folder: Path) -> None:
        """Set ``engine_before`` and ``pack_before`` from a run folder."""
        engine = read_json(folder / ENVIRONMENT).get("engine", {})
        # A pack writes its name at the start of training, the loop engine at the end.
        self.engine_before, self.pack_before = str(engine.get("name", "loop")), engine.get("pack")

    @property
    def running(self) -> bool:
        """Whether it has not stopped yet."""
        return not self.stopped

    def mark_lost(self, cause: str) -> None:
        """Mark it as failed because its worker process ended; its epochs so far are in the run's history."""
        history = self.run.history
        message = f"Training was terminated in epoch {len(history) + 1}: {cause}"
        self.mark_failed(message, len(history), history[-1]["step"] if history else 0, reason="lost")

    def mark_failed(self, message: str, epochs: int, steps: int, reason: str = "diverged") -> None:
        """Mark it as failed, because it diverged or for another reason."""
        self.stopped = reason
        self.run.metrics = {
            "status": "failed",
            "stopped": reason,
            "message": message,
            "task": self.run.schema.task,
            "epochs": epochs,
            "steps": steps,
        }
