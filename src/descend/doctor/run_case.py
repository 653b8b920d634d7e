"""A run to be diagnosed: what it was trained with, how it went, and what it could have been trained with instead."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from descend.doctor.function_calls import FunctionCalls
from descend.doctor.loop_record import ActivationRecord
from descend.metrics import better, main_metric
from descend.recipe import Recipe
from descend.runs.plan import Plan
from descend.runs.run import Run

__all__ = ["Proposal", "RunCase", "changed", "single"]

ROWS = 1024
"""The number of rows on which units are examined."""


@dataclass(frozen=True, eq=False)
class Proposal:
    """A change of the recipe that would help if its cause were present.

    Args:
        cause: the name of the cause.
        changes: values of the recipe by key.
        evidence: what was seen that suggests the cause, before anything is trained.
    """

    cause: str
    changes: Mapping[str, Any]
    evidence: tuple[str, ...] = ()


@dataclass(eq=False)
class RunCase:
    """A finished or failed run with its data.

    Args:
        run: the run.
        planned: its plan, with the prepared data.
        results: the runs of changed recipes by proposal, once they are trained.
    """

    run: Run
    planned: Plan
    results: Mapping[Proposal, Run] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The resolved recipe, of one network where the run trained several."""
        return single(self.run.recipe)

    def value(self, path: str) -> Any:
        """Return the value of a key of the recipe, or None for a key that its method lacks."""
        return self.recipe.get(path, None)

    @functools.cached_property
    def metric(self) -> str:
        """The metric by which trainings are compared: the main one of the task, or the loss where that is undefined."""
        name = main_metric(self.run.schema.task)
        measured = self.run.metrics.get("validation", {})
        return name if measured.get(name) is not None or not measured else "loss"

    def error(self, run: Run) -> float:
        """Return the error of a run on the validation rows, lower is better; infinite for a failed run.

        It is 1 minus accuracy or R², so that 1 is the error of a constant prediction for R².
        """
        if run.failed:
            return math.inf
        value = run.metrics.get("validation", {}).get(self.metric)
        if value is None or not math.isfinite(value):
            return math.inf
        return 1.0 - float(value) if better(self.metric) == "higher" else float(value)

    @property
    def constant_error(self) -> float:
        """The error of the best constant prediction on the validation rows."""
        targets = self.planned.prepared.validation.targets
        if self.run.schema.task in ("binary", "multiclass"):
            counts = torch.bincount(targets.long().flatten())
            return 1.0 - float(counts.max()) / len(targets)
        return 1.0

    @property
    def margin(self) -> float:
        """The difference of errors on the validation rows that chance does not explain: three standard errors."""
        n = max(1, len(self.planned.prepared.validation))
        if self.run.schema.task in ("binary", "multiclass"):
            e = min(0.5, max(self.error(self.run) if math.isfinite(self.error(self.run)) else 0.5, 1.0 / n))
            return max(0.01, 3.0 * math.sqrt(e * (1 - e) / n))
        return max(0.05, 1.0 / math.sqrt(n))

    def improvement(self, run: Run) -> float:
        """Return the part of the error that another run removes, 0 if it is within the margin of chance."""
        own, other = self.error(self.run), self.error(run)
        if not math.isfinite(other):
            return 0.0
        own = min(own, max(2 * self.constant_error, 1.0))
        if own - other < self.margin or own <= 0:
            return 0.0
        return min(1.0, (own - other) / own)

    @property
    def history(self) -> Sequence[Mapping[str, Any]]:
        """One record per epoch."""
        return self.run.history

    def curve(self, part: str, name: str = "loss") -> list[float]:
        """Return the values of a part by epoch, such as the loss of "train", without undefined ones."""
        values = [record.get(part, {}).get(name) for record in self.history]
        return [float(each) for each in values if each is not None]

    @functools.cached_property
    def activations(self) -> list[ActivationRecord]:
        """The outputs of the activations at the kept weights, on training rows."""
        rows = self._rows()
        if rows is None:
            return []
        model = self.run.model
        observed = FunctionCalls(any_graph=True)
        with observed, torch.no_grad():
            model(rows.to(next(model.parameters()).device))
        return observed.activations

    def _rows(self) -> Tensor | None:
        inputs = self.planned.prepared.train.inputs
        return None if inputs is None else inputs[:ROWS]


def single(recipe: Recipe) -> Recipe:
    """Return a resolved recipe that trains one network, once.

    >>> single(Recipe(model={"ensemble": 5})).model["ensemble"]
    1
    """
    one = {
        "init.restarts": 1, "model.ensemble": 1, "model.members": (), "model.ensemble_selection": "best",
        "model.ensemble_shrinkage": 0.0, "model.preset": "quick", "model.distill": False, "stop.refit": False,
    }  # fmt: skip
    return recipe.replace(one)


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """Return a resolved recipe with other values; where a method changes, its other settings are chosen again.

    >>> recipe = Recipe(optimizer={"name": "sgd", "lr": 0.1, "momentum": 0.9})
    >>> dict(changed(recipe, {"optimizer.name": "adam"}).optimizer)
    {'name': 'adam'}
    """
    sections = {name: dict(values) for name, values in recipe.items()}
    for path, value in changes.items():
        section, _, key = path.partition(".")
        if key == "name" and sections.get(section, {}).get("name") != value:
            sections[section] = {}
        sections.setdefault(section, {})[key] = value
    return Recipe.of(sections)
