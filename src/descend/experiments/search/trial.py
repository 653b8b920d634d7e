"""The record of one trial: a configuration of a search and its result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from descend.experiments.search.dimension import to_plain
from descend.experiments.search.space import Point
from descend.metrics import better
from descend.runs.run import Run

__all__ = ["Status", "Trial", "best_score_until", "best_trial", "trial_from_run"]

Status = Literal["finished", "dropped", "diverged"]


@dataclass(frozen=True)
class Trial:
    """One configuration and its result.

    Args:
        number: number of the trial in the search, from 0.
        values: the values of the active dimensions, by ``section.key``.
        status: "finished", "dropped" (stopped early by successive halving) or "diverged".
        score: the metric on the validation rows, with the weights that were kept; None if the trial diverged or the
            metric is undefined for its predictions. Such a trial is never the best.
        loss: the validation loss with these weights; it decides between equal scores.
        epochs: number of epochs trained.
        seconds: training time; that of the whole pack if the trial was trained in one.
        message: why the trial has no score.
        rungs: the best score up to each rung that the trial reached, by epoch; None if it was undefined.
    """

    number: int
    values: Point
    status: Status
    score: float | None = None
    loss: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    message: str = ""
    rungs: Mapping[int, float | None] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return {
            "number": self.number,
            "status": self.status,
            "score": self.score,
            "loss": self.loss,
            "epochs": self.epochs,
            "seconds": self.seconds,
            "values": to_plain(self.values),
            **({"message": self.message} if self.message else {}),
            **({"rungs": {str(epoch): value for epoch, value in self.rungs.items()}} if self.rungs else {}),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Trial:
        """Read what :meth:`to_json` returned.

        Raises:
            KeyError: a required key is missing.
            ValueError: a value is invalid.

        >>> Trial.from_json(Trial(3, {"optimizer.lr": 0.1}, "diverged").to_json()).number
        3
        """
        if record["status"] not in ("finished", "dropped", "diverged") or not isinstance(
            record["values"], dict
        ):
            raise ValueError(f"not the record of a trial: {record}")
        return cls(
            number=int(record["number"]),
            values=record["values"],
            status=record["status"],
            score=None if record["score"] is None else float(record["score"]),
            loss=None if record["loss"] is None else float(record["loss"]),
            epochs=int(record["epochs"]),
            seconds=float(record["seconds"]),
            message=str(record.get("message", "")),
            rungs={
                int(epoch): None if value is None else float(value)
                for epoch, value in record.get("rungs", {}).items()
            },
        )

    def rank_key(self, metric: str) -> tuple[float, float, int]:
        """Sort key, the best trial first: the score (negated where higher is better), the loss, the number."""
        score = math.inf if self.score is None else self.score
        if better(metric) == "higher" and self.score is not None:
            score = -score
        return score, math.inf if self.loss is None else self.loss, self.number


def best_trial(trials: Iterable[Trial], metric: str) -> Trial | None:
    """Return the best finished trial; the loss decides between equal scores, then the lower number.

    >>> tried = [Trial(0, {}, "finished", 0.8, 0.5), Trial(1, {}, "finished", 0.8, 0.4), Trial(2, {}, "diverged")]
    >>> best_trial(tried, "accuracy").number
    1
    """
    finished = [trial for trial in trials if trial.status == "finished" and trial.score is not None]
    return min(finished, key=lambda trial: trial.rank_key(metric), default=None)


def trial_from_run(
    number: int, values: Point, run: Run, metric: str, rungs: Mapping[int, float | None]
) -> Trial:
    """Return the record of a run that has ended."""
    metrics = run.metrics
    epochs, seconds = int(metrics.get("epochs", 0)), float(metrics.get("seconds", 0.0))
    validation = metrics.get("validation", {})
    score, loss = validation.get(metric), validation.get("loss")
    if run.failed or (score is not None and not math.isfinite(score)):
        message = str(metrics.get("message", f"its {metric} is not finite"))
        return Trial(number, to_plain(values), "diverged", None, None, epochs, seconds, message, rungs)
    status: Status = "dropped" if metrics.get("stopped") == "dropped" else "finished"
    message = f"its {metric} is undefined" if score is None else ""
    score = None if score is None else float(score)
    return Trial(number, to_plain(values), status, score, loss, epochs, seconds, message, rungs)


def best_score_until(history: Iterable[Mapping[str, Any]], metric: str, epoch: int) -> float | None:
    """Return the best validation score of all epochs up to and including ``epoch``; None if it was never defined.

    >>> history = [{"epoch": at, "validation": {"accuracy": at / 10}} for at in (1, 2, 3)]
    >>> best_score_until(history, "accuracy", 2)
    0.2
    """
    values = [
        record["validation"][metric]
        for record in history
        if record["epoch"] <= epoch and record["validation"].get(metric) is not None
    ]
    if not values:
        return None
    return float(max(values) if better(metric) == "higher" else min(values))
