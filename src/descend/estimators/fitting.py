"""A whole training of an estimator: from checked rows and a recipe to a run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from descend.api import execute
from descend.data.columns import infer
from descend.data.labels import classes_of, codes_of, restore
from descend.data.preparation import Part
from descend.data.settings import MISSING, DataSettings
from descend.data.source import PARTS, Array, Source
from descend.errors import DataError
from descend.estimators.parameters import Sections, as_recipe
from descend.estimators.weighted_set import Distinct, counted, distinct, taken, validation_words
from descend.estimators.weighted_batches import WeightedBatches, draws_of_epoch
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.defaults import facts_of
from descend.rng import forked
from descend.runs.plan import Plan, choose_device, plan_run
from descend.runs.run import Run
from descend.training.loop import Observer

__all__ = ["engine", "network_and_threads", "train_whole", "weighted"]

ENOUGH = 40
"""Different inputs from which some are held out to choose when to stop. The default share of fewer would be
five or less, whose loss says little; training to the end on all of them is the better use."""

SMALL = 1e8
"""Multiplications of a step, a few milliseconds, up to which a second thread is not worth waiting for."""


def train_whole(
    source: Source, weights: Array | None, sections: Sections, seed: int, observers: Sequence[Observer] = ()
) -> Run:
    """Train on the weighted set of a source's rows.

    Args:
        source: rows and targets, checked.
        weights: of the rows, 0 or more, or None.
        sections: what was asked for; ``data.task`` names the task.
        seed: of the run.
        observers: who watches.

    Raises:
        UserError: the data or the recipe cannot be used.
        DivergedError: a number became NaN or infinite.
    """
    data = dict(sections["data"])
    labelled = data["task"] not in ("regression", "multi_regression")
    assert source.targets is not None
    codes = _codes(source.targets, weights) if labelled else source.targets
    found = distinct(source, codes, weights, _words(data))
    if data.get("validation") is None:
        data["validation"] = DataSettings.validation if found.inputs >= ENOUGH else 0.0
    recipe = as_recipe(sections | {"data": data, "engine": engine(sections)})
    share = recipe.data["validation"]
    own = codes[found.rows]
    split = validation_words(found, own if labelled else None, share=share, seed=seed)
    kinds = taken(source, found, split)
    if labelled:
        kinds = dataclasses.replace(kinds, classes=_classes(kinds.targets, weights is not None))
    planned = _numbered_as_given(_planned(kinds, source, recipe, seed), source, found)
    network, planned = network_and_threads(planned, sections)
    device = choose_device(planned.recipe.engine["device"])
    batches = weighted(planned.prepared.train, planned.recipe, seed, device)
    with forked(device):
        return execute(planned, model=network, observers=observers, batches=batches)


def _words(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Words for a missing value. What is said is checked with the rest of the recipe, later."""
    said = data.get("missing")
    return tuple(map(str, said)) if isinstance(said, list | tuple) else MISSING


def engine(sections: Sections) -> dict[str, Any]:
    """The engine section with one thread, unless it says a number; see :func:`network_and_threads`."""
    return {"threads": 1, **sections.get("engine", {})}


def _codes(labels: Array, weights: Array | None) -> Array:
    """The place of each label among those of rows that count."""
    codes = codes_of(labels, classes_of(labels)[0])
    return codes if weights is None else np.searchsorted(np.unique(codes[counted(weights)]), codes)


def _classes(labels: Any, weighted: bool) -> Array:
    classes, dtype = classes_of(labels)
    if len(classes) < 2:
        rows = "every row with a weight above 0" if weighted else "every row"
        raise DataError(f"{rows} has the class {classes[0]!r}; at least two classes are needed to tell apart")
    return restore(classes, dtype)


def _planned(kinds: Source, source: Source, recipe: Recipe, seed: int) -> Plan:
    try:
        return plan_run(kinds, recipe, seed=seed)
    except DataError:
        if source.frame is not None:
            # The same complaint, with the rows as the caller numbers them.
            infer(source.frame, DataSettings(**recipe.data))
        raise


def _numbered_as_given(planned: Plan, source: Source, found: Distinct) -> Plan:
    """The plan with the caller's row numbers, for messages and for the rows that a run shows."""
    prepared = planned.prepared
    parts: dict[str, Part] = {name: getattr(prepared, name) for name in PARTS}
    numbered: dict[str, Any] = {
        name: dataclasses.replace(part, rows=found.rows[part.rows]) for name, part in parts.items()
    }
    return dataclasses.replace(planned, source=source, prepared=dataclasses.replace(prepared, **numbered))


def network_and_threads(planned: Plan, asked: Sections) -> tuple[nn.Module, Plan]:
    """The network with its initial weights, and the plan with a number of threads that sizes alone decide.

    The plan comes with one thread, or with the number that was asked for, which stays.

    The number must not be measured anew at each fit: another one changes the last bits. A small step gains
    nothing from a second thread; a large one uses as many as the process is set to, which joblib does for its
    workers.
    """
    device = choose_device(planned.recipe.engine["device"])
    with forked():
        network = build_model(planned.recipe, facts_of(planned.prepared.schema, str(device)), planned.seed)
    if "threads" in asked.get("engine", {}):
        return network, planned
    rows = min(planned.recipe.data["batch_size"], len(planned.prepared.train))
    uses = 1
    if any(isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) for layer in network.modules()):
        uses = math.prod(planned.prepared.schema.input_shape[1:])  # a kernel's weights, once a pixel
    work = 3.0 * rows * uses * sum(p.numel() for p in network.parameters())
    resolved, why = planned.resolved, f"{work:,.0f} multiplications a step: one thread"
    if work > SMALL:
        resolved = dataclasses.replace(
            resolved, recipe=resolved.recipe.replace({"engine.threads": torch.get_num_threads()})
        )
        why = f"{work:,.0f} multiplications a step: as many as the process is set to"
    resolved = dataclasses.replace(resolved, reasons={**resolved.reasons, "engine.threads": why})
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
