"""A complete training of an estimator: from validated rows and a recipe to a run."""

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
from descend.data.settings import MISSING, DataSettings, Missing
from descend.data.source import PARTS, Array, Source
from descend.errors import DataError, DivergedError
from descend.estimators.parameters import Sections
from descend.estimators.weighted_batches import WeightedBatches, samples_per_epoch
from descend.estimators.weighted_set import WeightedSet, has_weight, select, split_by_input, weighted_set
from descend.many.networks import train_networks
from descend.many.refit import refitted
from descend.recipe import Recipe
from descend.recipe.build import build_model
from descend.recipe.facts import facts_of
from descend.recipe.members import networks_per_run
from descend.rng import forked
from descend.runs.plan import Plan, choose_device, plan_run
from descend.runs.run import Run
from descend.training.loop import Observer

__all__ = ["network_and_threads", "single_thread", "train_complete", "weighted_batches"]

MIN_INPUTS_FOR_VALIDATION = 40
"""Minimum number of distinct inputs for a validation part. With fewer, the default fraction would be at most five rows,
whose loss is not informative, so that training on all of them to the end is better."""

MAX_SINGLE_THREAD_WORK = 1e8
"""Number of multiplications in a step (a few milliseconds) up to which a second thread does not pay off."""


def train_complete(
    source: Source, weights: Array | None, sections: Sections, seed: int, observers: Sequence[Observer] = ()
) -> Run:
    """Train on the weighted set of a source's rows.

    Args:
        source: validated rows and targets.
        weights: weights of the rows, 0 or more, or None.
        sections: sections of the recipe; ``data.task`` is set.
        seed: seed of the run.
        observers: observers of the training.

    Raises:
        UserError: the data or the recipe cannot be used.
        DivergedError: a number became NaN or infinite.
    """
    data = dict(sections["data"])
    assert source.targets is not None
    classified = data["task"] not in ("regression", "multi_regression")
    labeled = classified and source.targets.ndim == 1
    codes = _codes(source.targets, weights) if labeled else source.targets
    unique = weighted_set(source, codes, weights, _missing_strings(data))
    if data.get("validation") is None:
        data["validation"] = (
            DataSettings.validation if unique.distinct_inputs >= MIN_INPUTS_FOR_VALIDATION else 0.0
        )
    recipe = Recipe.of(sections | {"data": data, "engine": single_thread(sections)})
    share = recipe.data["validation"]
    distinct_codes = codes[unique.rows]
    split = split_by_input(unique, distinct_codes if labeled else None, share=share, seed=seed)
    distinct = select(source, unique, split)
    if classified and not labeled:  # a label may hold in all rows or in none
        distinct = dataclasses.replace(distinct, classes=np.array([0, 1]).astype(source.targets.dtype))
    if labeled:
        distinct = dataclasses.replace(distinct, classes=_classes(distinct.targets, weights is not None))
    planned = _with_row_numbers(_planned(distinct, source, recipe, seed), source, unique)
    network, planned = network_and_threads(planned, sections)
    device = choose_device(planned.recipe.engine["device"])

    def batches(plan: Plan = planned) -> WeightedBatches | None:
        return weighted_batches(plan.prepared.train, plan.recipe, seed, device)

    def refit(run: Run) -> Run:
        if not planned.recipe.stop.get("refit") or not len(planned.prepared.validation):
            return run
        return refitted(
            run,
            planned,
            source=dataclasses.replace(distinct, split=None),
            observers=observers,
            batches=batches,
        )

    with forked(device):
        if networks_per_run(planned.recipe) == 1:
            run = execute(planned, model=network, observers=observers, batches=batches(), refits=False)
            return refit(run)
        # One network after another: the fastest engine is found by measuring, and engines differ in the last bits.
        run = train_networks(planned, engine="loop", observers=observers, batches=batches)
    if run.failed:
        raise DivergedError(run.metrics["message"])
    return refit(run)


def _missing_strings(data: Mapping[str, Any]) -> Missing:
    """Return the strings for a missing value, which are validated later with the rest of the recipe."""
    specified = data.get("missing")
    if isinstance(specified, Mapping):
        return {str(name): tuple(map(str, own)) for name, own in specified.items()}
    return tuple(map(str, specified)) if isinstance(specified, list | tuple) else MISSING


def single_thread(sections: Sections) -> dict[str, Any]:
    """Return the engine section with one thread unless it specifies a number; see :func:`network_and_threads`."""
    return {"threads": 1, **sections.get("engine", {})}


def _codes(labels: Array, weights: Array | None) -> Array:
    """Return the index of each label among the labels of rows with weight."""
    codes = codes_of(labels, classes_of(labels)[0])
    return codes if weights is None else np.searchsorted(np.unique(codes[has_weight(weights)]), codes)


def _classes(labels: Any, weighted: bool) -> Array:
    classes, dtype = classes_of(labels)
    if len(classes) < 2:
        rows = "every row with a weight above 0" if weighted else "every row"
        raise DataError(f"{rows} has the class {classes[0]!r}; at least two classes are needed")
    return restore(classes, dtype)


def _planned(distinct: Source, source: Source, recipe: Recipe, seed: int) -> Plan:
    try:
        return plan_run(distinct, recipe, seed=seed)
    except DataError:
        if source.frame is not None:
            # Raise the same error with the caller's row numbers.
            infer(source.frame, DataSettings(**recipe.data))
        raise


def _with_row_numbers(planned: Plan, source: Source, unique: WeightedSet) -> Plan:
    """Return the plan with the caller's row numbers, for messages and for the rows that a run shows."""
    prepared = planned.prepared
    parts: dict[str, Part] = {name: getattr(prepared, name) for name in PARTS}
    numbered: dict[str, Any] = {
        name: dataclasses.replace(part, rows=unique.rows[part.rows]) for name, part in parts.items()
    }
    return dataclasses.replace(planned, source=source, prepared=dataclasses.replace(prepared, **numbered))


def network_and_threads(planned: Plan, sections: Sections) -> tuple[nn.Module, Plan]:
    """Return the initialized network, and the plan with a number of threads that depends on sizes only.

    The plan has one thread, or the specified number, which is kept.

    The number must not be measured at each fit, because a different number changes the last bits. A small step gains
    nothing from a second thread; a large one uses the number of threads of the process, which joblib sets for its
    workers.
    """
    device = choose_device(planned.recipe.engine["device"])
    with forked():
        network = build_model(
            planned.recipe,
            facts_of(planned.prepared.schema, str(device)),
            planned.seed,
            planned.prepared.train,
        )
    if "threads" in sections.get("engine", {}):
        return network, planned
    rows = min(planned.recipe.data["batch_size"], len(planned.prepared.train))
    uses = 1
    if any(isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d) for layer in network.modules()):
        uses = math.prod(
            planned.prepared.schema.input_shape[1:]
        )  # the weights of a kernel are used at each pixel
    work = 3.0 * rows * uses * sum(p.numel() for p in network.parameters())
    resolved, reason = planned.resolved, f"{work:,.0f} multiplications per step: one thread"
    if work > MAX_SINGLE_THREAD_WORK:
        resolved = dataclasses.replace(
            resolved, recipe=resolved.recipe.replace({"engine.threads": torch.get_num_threads()})
        )
        reason = f"{work:,.0f} multiplications per step: the number of threads of the process"
    resolved = dataclasses.replace(resolved, reasons={**resolved.reasons, "engine.threads": reason})
    return network, dataclasses.replace(planned, resolved=resolved)


def weighted_batches(
    part: Part, recipe: Recipe, seed: int, device: torch.device, *, samples: int | None = None
) -> WeightedBatches | None:
    """Return batches that sample the rows of a part by their weights; None if the plan's own batches are suitable.

    Those are suitable if the rows have no weights, or if each step uses all rows, so that averaging with weights is
    exact.
    """
    sampling = recipe.data["sampling"]
    if part.weights is None or part.inputs is None or sampling == "full":
        return None
    return WeightedBatches(
        part.inputs.to(device),
        part.targets.to(device),
        part.weights,
        batch_size=recipe.data["batch_size"],
        samples=samples or samples_per_epoch(part.weights),
        accumulate=recipe.gradient["accumulate"],
        sampling=sampling,
        seed=seed,
    )
