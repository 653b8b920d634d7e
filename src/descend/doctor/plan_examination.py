"""Diagnosis of data and a recipe before training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Unpack

import torch

from descend.data.training_data import DataOptions
from descend.doctor.causes import CAUSES, CONSEQUENCES
from descend.doctor.findings import Finding, ranked
from descend.doctor.program import Program
from descend.doctor.rows import MOST, undisturbed_randomness
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.runs.build import assemble
from descend.runs.device import choose_device
from descend.runs.plan import Plan, Planner
from descend.runs.run import Run

__all__ = ["examine_data", "program_of"]


def examine_data(
    data: Any,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    *,
    seed: int = 0,
    device: str | None = None,
    allow_imports: bool = False,
    **data_options: Unpack[DataOptions],
) -> list[Finding]:
    """Find what is wrong with data and a recipe before they are trained.

    The data are examined, and the first network of the recipe at its initial weights, in short trainings of copies.

    Args:
        data: as of :func:`descend.train`.
        recipe: as of :func:`descend.train`.
        seed: of the initial weights and the split. Default 0.
        device: shorthand for the recipe's ``engine.device``.
        allow_imports: whether recipe files may contain import paths, which run code. Default False.
        **data_options: ``target``, ``validation``, ``test`` and ``sample_weight``, as in :class:`descend.TrainingData`.

    Returns:
        Findings, most certain first; an empty list where nothing is wrong.

    Raises:
        UserError: the data or the recipe cannot be used.

    >>> rows = {"x": [1.0, 2.0, 3.0, 4.0] * 25, "y": ["a", "b", "c", "d"] * 25}
    >>> [each.cause for each in examine_data(rows, target="y")]
    ['target_in_inputs']
    """
    planned = Planner(data, device=device, allow_imports=allow_imports, **data_options).plan(recipe, seed)
    found = [each.in_data(planned) for each in CAUSES]
    program = program_of(planned)
    if program is not None:
        found += [each.before_training(program) for each in CAUSES]
    return ranked([each for each in found if each is not None], CONSEQUENCES)


def program_of(planned: Plan) -> Program | None:
    """Return the network of a plan with its loss, rows and optimizer; None for rows that are not in memory.

    The optimizer is left out where it needs more than a gradient of a step's rows, and the network is the first one of a
    recipe that trains several.
    """
    train = planned.prepared.train
    if train.inputs is None or train.stored:
        return None
    recipe = planned.recipe
    if recipe.model.get("members") or recipe.model.get("ensemble", 1) != 1:
        recipe = recipe.replace(
            {"model.members": (), "model.ensemble": 1, "model.ensemble_selection": "best"}
        )
    device = choose_device(recipe.engine["device"])
    with undisturbed_randomness(planned.seed):
        model = build_model(recipe, facts_of(planned.prepared.schema, str(device)), planned.seed, train).to(
            device
        )
        training = assemble(planned, Run(recipe, {}, planned.prepared.schema, model), device)
    optimizer: torch.optim.Optimizer | None = training.optimizer
    needs = getattr(optimizer, "needs", ())
    if needs:
        optimizer = None
    inputs, targets = train.inputs[:MOST].to(device), train.targets[:MOST].to(device)
    size = recipe.data["batch_size"]
    return Program(
        model, training.objective.loss, inputs, targets, optimizer, size if isinstance(size, int) else 32
    )
