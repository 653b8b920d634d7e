"""Training of a run that trains several networks: until a time is spent, or a fixed number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from descend.many.budget import train_best
from descend.many.restarts import train_restarts
from descend.runs.plan import Plan
from descend.runs.run import Run

__all__ = ["train_networks"]


def train_networks(planned: Plan, folder: Path | None = None, **arguments: Any) -> Run:
    """Train several networks as the recipe specifies; see :func:`train_best` and :func:`train_restarts`.

    Args:
        planned: with the preset best, ``model.members``, or ``model.ensemble`` or ``init.restarts`` above 1.
        folder: the run folder, or None.
        **arguments: keyword arguments that both functions take.
    """
    if planned.recipe.model.get("preset") == "best":
        return train_best(planned, folder, **arguments)
    return train_restarts(planned, folder, **arguments)
