"""The record of one run of a comparison, and its cost to reach a target score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.metrics import better
from descend.recipe.members import networks_per_run
from descend.runs.run import Run

__all__ = ["TargetCost", "Trial", "at_least_as_good", "gradient_count", "trial_from_run"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class TargetCost:
    """The cost to reach a target: epochs, steps, gradients of single batches, and seconds of training."""

    epochs: float
    steps: float
    gradients: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """The record of one run of a variant, without its network.

    Args:
        seed: seed of the run.
        lr: its learning rate; None if the recipe's own was used.
        failed: whether it diverged.
        message: where it diverged, and advice.
        metrics: by part of the data, the loss and metrics of the weights that were kept.
        history: one record per epoch.
        accumulate: number of batches whose gradients are accumulated in one step.
        networks: number of networks trained for the run (``init.restarts``, ``model.ensemble``, ``model.members``). The
            history is that of one network, so its gradients and seconds are multiplied by this number.
        engine: the engine that trained the run.
        path: the run folder, or None.
    """

    seed: int
    lr: float | None
    failed: bool
    message: str
    metrics: Mapping[str, Mapping[str, float | None]]
    history: Sequence[Record]
    accumulate: int = 1
    networks: int = 1
    engine: str = "loop"
    path: Path | None = None

    def score(self, part: str, metric: str) -> float | None:
        """Return a metric of the kept weights; None if the run diverged or the metric is undefined."""
        return None if self.failed else self.metrics.get(part, {}).get(metric)

    def best(self, metric: str) -> float | None:
        """Return the best validation value over all epochs, including those of a run that diverged later."""
        measured = [record.get("validation", {}).get(metric) for record in self.history]
        values = [value for value in measured if value is not None]
        return (max(values) if better(metric) == "higher" else min(values)) if values else None

    def cost_to_reach(self, metric: str, target: float) -> TargetCost | None:
        """Return the cost until the first epoch whose validation value reaches the target; None if none does."""
        for record in self.history:
            value = record.get("validation", {}).get(metric)
            if value is not None and at_least_as_good(metric, value, target):
                gradients = gradient_count(record, self.accumulate) * self.networks
                seconds = record["seconds"] * self.networks
                return TargetCost(record["epoch"], record["step"], gradients, seconds)
        return None


def at_least_as_good(metric: str, value: float, than: float) -> bool:
    """Return whether a value of a metric, or of the loss, is as good as another or better.

    >>> at_least_as_good("accuracy", 0.9, 0.8), at_least_as_good("loss", 0.9, 0.8)
    (True, False)
    """
    return value >= than if better(metric) == "higher" else value <= than


def gradient_count(record: Record, accumulate: int) -> float:
    """Return the number of single-batch gradients up to the end of an epoch, a cost measure that fits any optimizer.

    A first-order step takes one gradient of each of its ``accumulate`` batches. A method with more evaluations per step
    counts them itself: if the record contains ``gradients``, the cumulative count, it is returned.

    >>> gradient_count({"step": 10}, accumulate=2), gradient_count({"step": 10, "gradients": 57}, accumulate=1)
    (20, 57)
    """
    count: float = record.get("gradients", record["step"] * accumulate)
    return count


def trial_from_run(run: Run, seed: int, lr: float | None) -> Trial:
    """Return the record of a run that has ended."""
    engine = run.environment.get("engine", "loop")
    engine_name = engine.get("name", "loop") if isinstance(engine, Mapping) else str(engine)
    parts: dict[str, Mapping[str, float | None]] = {
        part: run.metrics[part] for part in ("train", "validation", "test") if part in run.metrics
    }
    finite = all(v is None or math.isfinite(v) for values in parts.values() for v in values.values())
    return Trial(
        seed,
        lr,
        run.failed or not finite,
        str(run.metrics.get("message", "")),
        parts,
        tuple(run.history),
        int(run.recipe.get("gradient.accumulate", 1)),
        networks_per_run(run.recipe),
        engine_name,
        None if run.failed else run.path,
    )
