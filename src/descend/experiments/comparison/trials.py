"""What is kept of a run, and when it reached a target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from descend.metrics import better
from descend.runs.run import Run

__all__ = ["Reach", "Trial", "at_least_as_good", "gradients_of", "trial_of"]

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Reach:
    """What it took to reach a target: epochs, steps, gradients of batches, seconds of training."""

    epochs: float
    steps: float
    gradients: float
    seconds: float


@dataclass(frozen=True)
class Trial:
    """One run of a variant.

    Args:
        seed: of the run.
        lr: its learning rate; None where it is the recipe's own.
        failed: whether it diverged.
        message: where it diverged, and what helps.
        metrics: by part: the loss and metrics of the weights that were kept.
        history: a record per epoch.
        accumulate: batches whose gradients make one step.
        networks: how many were trained for it (``init.restarts``, ``model.ensemble``): the history is that of one,
            and its gradients and seconds count so many times.
        engine: what trained it.
        path: its run folder, or None.
    """

    seed: int
    lr: float | None
    failed: bool
    message: str
    metrics: Mapping[str, Mapping[str, float]]
    history: Sequence[Record]
    accumulate: int = 1
    networks: int = 1
    engine: str = "loop"
    path: Path | None = None

    def score(self, part: str, metric: str) -> float | None:
        """A value of the kept weights; None where the run diverged."""
        return None if self.failed else self.metrics.get(part, {}).get(metric)

    def best(self, metric: str) -> float | None:
        """The best value on the validation rows after any epoch, also of a run that diverged later."""
        seen = [record["validation"][metric] for record in self.history if "validation" in record]
        return (max(seen) if better(metric) == "higher" else min(seen)) if seen else None

    def to_reach(self, metric: str, target: float) -> Reach | None:
        """What it took until the validation rows first showed the target; None if they never did."""
        for record in self.history:
            value = record.get("validation", {}).get(metric)
            if value is not None and at_least_as_good(metric, value, target):
                gradients = gradients_of(record, self.accumulate) * self.networks
                return Reach(record["epoch"], record["step"], gradients, record["seconds"] * self.networks)
        return None


def at_least_as_good(metric: str, value: float, than: float) -> bool:
    """Whether a value of a metric, or of the loss, is as good as another or better.

    >>> at_least_as_good("accuracy", 0.9, 0.8), at_least_as_good("loss", 0.9, 0.8)
    (True, False)
    """
    return value >= than if better(metric) == "higher" else value <= than


def gradients_of(record: Record, accumulate: int) -> float:
    """Gradients of single batches up to the end of an epoch: what steps cost, whatever a step is.

    A first-order step takes one gradient of each of its ``accumulate`` batches. A method that evaluates more often
    counts for itself: where a record of the history has ``gradients``, the count so far, that is what is reported.

    >>> gradients_of({"step": 10}, accumulate=2), gradients_of({"step": 10, "gradients": 57}, accumulate=1)
    (20, 57)
    """
    found: float = record.get("gradients", record["step"] * accumulate)
    return found


def trial_of(run: Run, seed: int, rate: float | None) -> Trial:
    """What is kept of a run: all but its network."""
    engine = run.environment.get("engine", "loop")
    name = engine.get("name", "loop") if isinstance(engine, Mapping) else str(engine)
    parts: dict[str, Mapping[str, float]] = {
        part: run.metrics[part] for part in ("train", "validation", "test") if part in run.metrics
    }
    finite = all(math.isfinite(value) for values in parts.values() for value in values.values())
    return Trial(
        seed,
        rate,
        run.failed or not finite,
        str(run.metrics.get("message", "")),
        parts,
        tuple(run.history),
        int(run.recipe.get("gradient.accumulate", 1)),
        max(int(run.recipe.get("init.restarts", 1)), int(run.recipe.get("model.ensemble", 1))),
        name,
        None if run.failed else run.path,
    )
