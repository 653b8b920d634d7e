"""Training again on all rows: once the scores on held-out rows are known, these rows are training rows too.

The rule: the recipe is trained again, from new initial weights of the same seed, on the training rows and on the validation and
test rows that were split off from them, for as many epochs as those whose weights were kept. Rows that were given as validation
or test data are not used. Columns, categories and scales are fitted on all these rows. Batches have the same size, so that an
epoch has more steps; a schedule over the whole training has the same number of epochs as before. Of several networks those that
were kept are trained, each for its own number of epochs, and their weights in the mean prediction are the same. Probabilities
are calibrated by the map that was fitted on the validation rows before.

The scores of the run remain those of the networks that were trained on the training rows alone: they are what the procedure
attains on rows it has not seen. The refitted networks have no held-out score of their own.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from descend.data.batches import Batches
from descend.data.preparation import prepare
from descend.data.source import Source
from descend.errors import DivergedError, Interrupted, Problem, RecipeError, RunError
from descend.files import read_json
from descend.interface import resume_advice
from descend.nn.ensemble import Ensemble
from descend.recipe.build import link_of
from descend.recipe.facts import facts_of
from descend.recipe.members import network_recipe
from descend.runs.data_settings import data_settings
from descend.runs.folder import MANIFEST, METRICS, is_finished, is_started, reopen
from descend.runs.plan import Plan
from descend.runs.run import Run, load
from descend.runs.session import Session
from descend.training.loop import Observer

__all__ = ["REFIT", "check_refit", "finished_before", "is_refitted", "refitted", "rows_used"]

REFIT = "refit"
"""The folder of the networks that are trained on all rows, within that of an unfinished run."""

_OFF = {
    "model.calibration": "none",
    "stop.refit": False,
    "stop.patience": None,
    "stop.max_seconds": None,
    "stop.target": None,
    "stop.gradient_tolerance": None,
}
"""Of the second training: its end is known, and it has no validation rows."""


def rows_used(planned: Plan) -> int:
    """Return the number of rows that the second training uses."""
    source = planned.source
    return len(source) if source.split is None else int((source.split == "train").sum())


def check_refit(planned: Plan) -> None:
    """Refuse a refit that would use no further rows, and those of runs whose networks are not given by their recipe.

    Raises:
        RecipeError: all rows that may be used are training rows already; or the preset is best, or the network a distilled one.
    """
    model = planned.recipe.model
    if model.get("preset") == "best" or model.get("distill"):
        kind = "model.distill" if model.get("distill") else "preset"
        message = (
            f"a run with {kind} = {model[kind.removeprefix('model.')]!r} cannot be trained again on all rows"
        )
        raise RecipeError([Problem("stop", "refit", message, "use the preset good or quick")])
    if planned.recipe.stop.get("refit") and rows_used(planned) == len(planned.prepared.train):
        message = "all rows are training rows already, so that there is nothing to train again on"
        raise RecipeError([Problem("stop", "refit", message, "leave it out")])


def is_refitted(folder: Path) -> bool:
    """Whether a folder contains a run that has been trained again on all rows."""
    return is_finished(folder) and REFIT in read_json(folder / METRICS)


def finished_before(planned: Plan, folder: Path | None) -> Run | None:
    """Return the run whose first training is complete in a folder, and which continues; None for any other.

    Raises:
        RunError: a refitted run is to continue under another recipe.
    """
    if folder is None:
        return None
    kept = folder / REFIT / MANIFEST
    if is_refitted(folder):
        if planned.before is None:
            return load(folder, allow_imports=True)  # imports were checked when the plan was made
        raise RunError(
            f"the run in {folder} was trained again on all rows and is finished, so it cannot be continued; start a new run "
            "in another folder"
        )
    if planned.before is not None:
        shutil.rmtree(folder / REFIT, ignore_errors=True)
        return None
    if kept.exists():
        kept.replace(folder / MANIFEST)
    if is_finished(folder) and read_json(folder / METRICS).get("status") == "finished":
        return load(folder, allow_imports=True)
    return None


def refitted(
    run: Run,
    planned: Plan,
    folder: Path | None = None,
    *,
    source: Source | None = None,
    observers: Sequence[Observer] = (),
    batches: Callable[[Plan], Batches | None] = lambda plan: None,
) -> Run:
    """Train the networks of a finished run again, on all rows.

    Args:
        run: the finished run.
        planned: its plan.
        folder: the run folder, or None. It contains no finished run until the second training is complete; an interrupted one
            continues from its checkpoints.
        source: the rows, where they are not those of the plan. Default None.
        observers: notified of the events of each training.
        batches: returns the training batches for a plan, instead of those that it describes.

    Returns:
        The run with the new networks. ``metrics["refit"]`` contains the number of rows, the epochs of each network, the
        seconds, and the loss and metrics on these rows.

    Raises:
        DivergedError: a number became NaN or infinite.
        Interrupted: a signal requested to stop.
    """
    inner = None if folder is None else folder / REFIT
    if folder is not None and inner is not None:
        inner.mkdir(exist_ok=True)
        (folder / MANIFEST).replace(inner / MANIFEST)
    plan = _plan_on_all_rows(planned, source)
    members = run.metrics.get("members")
    kept = run.kept or [0]
    epochs = [int(run.metrics["best_epoch"])] if members is None else list(members["epochs"])
    several = members is not None
    trained: list[Run] = []
    try:
        for number, count in zip(kept, epochs, strict=True):
            recipe = network_recipe(plan.recipe, number) if several else plan.recipe
            own = _with_recipe(plan, recipe.replace(_OFF))
            place = None if inner is None else inner / f"{number:04d}"
            trained.append(_trained(own, place, count, observers, batches(own)))
    except Interrupted as cause:
        message = (
            f"training again on all rows: {str(cause).partition('; continue')[0]}{resume_advice(folder)}"
        )
        raise Interrupted(message, run=run, folder=folder) from None
    except DivergedError as cause:
        raise DivergedError(f"training again on all rows: {cause}") from None
    result = _combined(run, trained, weights=None if members is None else members.get("weights"))
    measured: dict[str, Any] = {"train": trained[0].metrics["train"]} if len(trained) == 1 else {}
    seconds = sum(float(one.metrics["seconds"]) for one in trained)
    result.metrics = run.metrics | {
        "refit": {"rows": len(plan.prepared.train), "epochs": epochs, "seconds": seconds, **measured}
    }
    if folder is not None and inner is not None:
        reopen(folder)
        result.write_files()
        shutil.rmtree(inner, ignore_errors=True)
    return result


def _plan_on_all_rows(planned: Plan, source: Source | None) -> Plan:
    """Return the plan on the rows from which the training rows were taken, without validation and test rows."""
    source = planned.source if source is None else source
    if source.split is not None:
        source = dataclasses.replace(source.take(np.flatnonzero(source.split == "train")), split=None)
    settings, _ = data_settings(planned.recipe)
    schema = planned.prepared.schema
    settings = dataclasses.replace(settings, task=schema.task, validation=0.0, test=0.0)
    prepared = prepare(source, settings, planned.seed)
    # A run is recognized by the fingerprint of all its data.
    own = dataclasses.replace(prepared.schema, fingerprint=schema.fingerprint, why=schema.why)
    return dataclasses.replace(
        planned, source=source, prepared=dataclasses.replace(prepared, schema=own), before=None
    )


def _with_recipe(plan: Plan, recipe: Any) -> Plan:
    return dataclasses.replace(plan, resolved=dataclasses.replace(plan.resolved, recipe=recipe))


def _trained(
    plan: Plan, folder: Path | None, epochs: int, observers: Sequence[Observer], batches: Batches | None
) -> Run:
    """Return the run of one network, trained for a number of epochs; one that is complete in its folder is loaded."""
    if folder is not None and is_finished(folder):
        return load(folder, allow_imports=True)
    resume = folder is not None and is_started(folder)
    session = Session(plan, folder, resume=resume, observers=observers, batches=batches)
    session.advance(until=epochs)
    return session.finish()


def _combined(run: Run, trained: Sequence[Run], weights: list[float] | None) -> Run:
    """Return the run with the new networks, the columns and scales they were trained with, and its calibration."""
    model = trained[0].model
    if len(trained) > 1:
        model = Ensemble(
            [one.model for one in trained], link_of(run.recipe, facts_of(trained[0].schema)), weights
        )
    # The rows of the parts are those on which the scores were measured.
    schema = dataclasses.replace(trained[0].schema, rows=run.schema.rows)
    return dataclasses.replace(run, model=model.eval(), schema=schema)
