"""A whole training of an estimator: from checked rows and a recipe to a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from descend.data.columns import infer
from descend.data.labels import classes_of, codes_of, restore
from descend.data.prepare import Part
from descend.data.settings import DataSettings
from descend.data.source import PARTS, Array, Source
from descend.errors import DataError
from descend.estimators.distinct import Distinct, distinct, taken, validation_words
from descend.estimators.weighted_batches import WeightedBatches, draws_of_epoch
from descend.launch import Plan, choose_device, execute, plan
from descend.randomness import forked
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.run import Run, facts_of
from descend.training.loop import Observer

__all__ = ["network_and_threads", "train_whole", "weighted"]

ENOUGH = 40
"""Different inputs from which some are held out to choose when to stop. The default share of fewer would be five or
less, whose loss says little; training to the end on all of them is the better use."""

SMALL = 1e8
"""Multiplications of one step up to which a second thread is not worth its synchronisation: a few milliseconds."""


def train_whole(
    source: Source, weights: Array | None, recipe: Recipe, seed: int, observers: Sequence[Observer] = ()
) -> Run:
    """Train on the weighted set of a source's rows.

    Args:
        source: rows and targets, checked.
        weights: of the rows, 0 or more, or None.
        recipe: what was asked for; ``data.task`` names the task.
        seed: of the run.
        observers: who watches.

    Raises:
        UserError: the data or the recipe cannot be used.
        DivergedError: a number became NaN or infinite.
    """
    settings = _settings(recipe)
    labelled = settings.task not in ("regression", "multi_regression")
    assert source.targets is not None
    codes = codes_of(source.targets, classes_of(source.targets)[0]) if labelled else source.targets
    found = distinct(source, codes, weights, settings.missing)
    share = recipe.get("data.validation")
    if share is None:
        share = settings.validation if found.inputs >= ENOUGH else 0.0
        recipe = recipe.replace({"data.validation": share})
    own = codes[found.rows]
    split = validation_words(
        found, own if labelled else None, task="multiclass" if labelled else "regression", share=share, seed=seed
    )
    kinds = taken(source, found, split)
    if labelled:
        kinds = dataclasses.replace(kinds, classes=_classes(kinds.targets, weights is not None))
    planned = _numbered_as_given(_planned(kinds, source, recipe, seed), source, found)
    network, planned = network_and_threads(planned, recipe)
    device = choose_device(planned.recipe.engine["device"])
    batches = weighted(planned.prepared.train, planned.recipe, seed, device)
    with forked(device):
        return execute(planned, model=network, observers=observers, batches=batches)


def _settings(recipe: Recipe) -> DataSettings:
    return DataSettings(**{key: value for key, value in recipe.data.items() if value is not None})


def _classes(labels: Any, weighted: bool) -> Array:
    classes = restore(*classes_of(labels))
    if len(classes) < 2:
        rows = "every row with a weight above 0" if weighted else "every row"
        raise DataError(f"{rows} has the class {classes[0]!r}; at least two classes are needed to tell apart")
    return classes


def _planned(kinds: Source, source: Source, recipe: Recipe, seed: int) -> Plan:
    try:
        return plan(kinds, recipe, seed=seed)
    except DataError:
        if source.frame is not None:
            infer(source.frame, _settings(recipe))  # the same complaint, with the rows as the caller numbers them
        raise


def _numbered_as_given(planned: Plan, source: Source, found: Distinct) -> Plan:
    """The plan with the caller's row numbers, for messages and for the rows that a run shows."""
    parts = {name: getattr(planned.prepared, name) for name in PARTS}
    numbered = {name: dataclasses.replace(part, rows=found.rows[part.rows]) for name, part in parts.items()}
    return dataclasses.replace(planned, source=source, prepared=dataclasses.replace(planned.prepared, **numbered))


def network_and_threads(planned: Plan, asked: Recipe) -> tuple[nn.Module, Plan]:
    """The network with its initial weights, and the plan with a number of threads that depends on sizes alone.

    The number must not be measured anew at each fit: another one changes the last bits. A small step gains
    nothing from a second thread; a large one uses as many as the process is set to, which joblib does for its
    workers.
    """
    device = choose_device(planned.recipe.engine["device"])
    with forked():
        network = build_model(planned.recipe, facts_of(planned.prepared.schema, str(device)), planned.seed)
    if asked.get("engine.threads") is not None:
        return network, planned
    rows = min(planned.recipe.data["batch_size"], len(planned.prepared.train))
    uses = 1
    if any(isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d)) for layer in network.modules()):
        uses = int(torch.Size(planned.prepared.schema.input_shape[1:]).numel())  # a kernel's weights, once a pixel
    work = 3.0 * rows * uses * sum(p.numel() for p in network.parameters())
    threads = 1 if work <= SMALL else torch.get_num_threads()
    why = f"{work:,.0f} multiplications a step: " + ("one thread" if work <= SMALL else "as the process is set")
    resolved = dataclasses.replace(
        planned.resolved,
        recipe=planned.recipe.replace({"engine.threads": threads}),
        reasons={**planned.resolved.reasons, "engine.threads": why},
    )
    return network, dataclasses.replace(planned, resolved=resolved)


def weighted(
    part: Part, recipe: Recipe, seed: int, device: torch.device, *, draws: int | None = None
) -> WeightedBatches | None:
    """Batches that draw the rows of a part by their weights; None where the plan's own batches do.

    Those do where the rows have no weights, and where each step takes all rows: then averaging with
    weights is exact.
    """
    sampling = recipe.data["sampling"]
    if part.weights is None or part.inputs is None or sampling == "full":
        return None
    return WeightedBatches(
        part.inputs.to(device),
        part.targets.to(device),
        part.weights,
        batch_size=recipe.data["batch_size"],
        draws=draws or draws_of_epoch(part.weights),
        accumulate=recipe.gradient["accumulate"],
        sampling=sampling,
        seed=seed,
    )
