"""A trial: one configuration of a search, and what came of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from descend.experiments.search.dimension import plain
from descend.experiments.search.space import Point
from descend.metrics import better
from descend.runs.run import Run

__all__ = ["Status", "Trial", "best_of", "trial_of", "value_until"]

Status = Literal["finished", "dropped", "diverged"]


@dataclass(frozen=True)
class Trial:
    """One configuration and what came of it.

    Args:
        number: its place in the search, from 0.
        values: what the space says of it, by ``section.key``.
        status: "finished", "dropped" (stopped early by successive halving) or "diverged".
        score: the metric on the validation rows, with the weights that were kept; None if it diverged.
        loss: the loss there, which decides between equal scores.
        epochs: epochs trained.
        seconds: time of training; of the whole pack where it rode in one.
        message: why it diverged.
        rungs: the best score up to each rung at which it was still in the race, by epoch.
    """

    number: int
    values: Point
    status: Status
    score: float | None = None
    loss: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    message: str = ""
    rungs: Mapping[int, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """It as plain values."""
        return {
            "number": self.number,
            "status": self.status,
            "score": self.score,
            "loss": self.loss,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "values": plain(self.values),
            **({"message": self.message} if self.message else {}),
            **({"rungs": {str(epoch): value for epoch, value in self.rungs.items()}} if self.rungs else {}),
        }

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Trial:
        """It from what :meth:`to_json` gave; a ``KeyError`` or ``ValueError`` says that it is something else.

        >>> Trial.from_json(Trial(3, {"optimizer.lr": 0.1}, "diverged").to_json()).number
        3
        """
        if said["status"] not in ("finished", "dropped", "diverged") or not isinstance(said["values"], dict):
            raise ValueError(f"no trial: {said}")
        return cls(
            number=int(said["number"]),
            values=said["values"],
            status=said["status"],
            score=None if said["score"] is None else float(said["score"]),
            loss=None if said["loss"] is None else float(said["loss"]),
            epochs=int(said["epochs"]),
            seconds=float(said["seconds"]),
            message=str(said.get("message", "")),
            rungs={int(epoch): float(value) for epoch, value in said.get("rungs", {}).items()},
        )

    def cost(self, metric: str) -> tuple[float, float, int]:
        """What is to be small: the score, turned round where higher is better; then the loss; then the number."""
        score = math.inf if self.score is None else self.score
        if better(metric) == "higher" and self.score is not None:
            score = -score
        return score, math.inf if self.loss is None else self.loss, self.number


def best_of(trials: Iterable[Trial], metric: str) -> Trial | None:
    """The best of those that finished; the loss decides between equal scores, then the number.

    >>> tried = [Trial(0, {}, "finished", 0.8, 0.5), Trial(1, {}, "finished", 0.8, 0.4), Trial(2, {}, "diverged")]
    >>> best_of(tried, "accuracy").number
    1
    """
    finished = [trial for trial in trials if trial.status == "finished" and trial.score is not None]
    return min(finished, key=lambda trial: trial.cost(metric), default=None)


def trial_of(number: int, values: Point, run: Run, metric: str, rungs: Mapping[int, float]) -> Trial:
    """The record of a run that has ended."""
    found = run.metrics
    epochs, seconds = int(found.get("epochs", 0)), float(found.get("seconds", 0.0))
    measured = found.get("validation", {})
    score, loss = measured.get(metric), measured.get("loss")
    if run.failed or score is None or not math.isfinite(score):
        message = str(found.get("message", f"its {metric} is not finite"))
        return Trial(number, plain(values), "diverged", None, None, epochs, seconds, message, rungs)
    status: Status = "dropped" if found.get("stopped") == "dropped" else "finished"
    return Trial(number, plain(values), status, float(score), loss, epochs, seconds, "", rungs)


def value_until(history: Iterable[Mapping[str, Any]], metric: str, epoch: int) -> float:
    """The best validation score of the epochs up to one.

    >>> history = [{"epoch": at, "validation": {"accuracy": at / 10}} for at in (1, 2, 3)]
    >>> value_until(history, "accuracy", 2)
    0.2
    """
    values = [record["validation"][metric] for record in history if record["epoch"] <= epoch]
    return float(max(values) if better(metric) == "higher" else min(values))
