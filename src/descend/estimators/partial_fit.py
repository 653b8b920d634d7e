"""One more pass over new rows: training that goes on as data come in."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from descend.data.preparation import Part, Prepared, encode_source
from descend.data.source import PARTS, Array, Source
from descend.errors import DataError, DivergedError
from descend.estimators.parameters import Sections, as_recipe
from descend.estimators.fitting import engine, network_and_threads, weighted
from descend.recipe import Recipe
from descend.recipe.resolve import Resolved
from descend.recipe.transfer import start_from_pretrained
from descend.runs.build import assemble
from descend.runs.environment import describe_environment
from descend.runs.plan import Plan, choose_device, plan_run
from descend.runs.run import Run
from descend.training.arithmetic import arithmetic
from descend.training.loop import NotFinite, fit
from descend.training.state import clone

__all__ = ["begin", "pass_over"]

State = dict[str, Any]
"""Everything that training needs to go on; plain values and tensors."""


def begin(source: Source, weights: Array | None, sections: Sections, seed: int) -> Run:
    """A network that has not learned yet, with columns and scaling fitted on the first rows.

    All columns of an array are taken for numbers, also those that do not vary yet. There is no validation
    part: rows that are seen once are all for learning.

    Args:
        source: the first rows and targets; ``classes`` names the classes of all rows to come.
        weights: of the rows, or None.
        sections: what was asked for.
        seed: of the run.
    """
    data = sections["data"] | {"validation": 0.0}
    frame = source.frame
    if frame is not None and not source.named and all(kind.is_numeric() for kind in frame.dtypes):
        data["columns"] = dict.fromkeys(frame.columns, "numeric") | data.get("columns", {})
    # Nobody knows when the last rows will come, so a schedule has no end to aim at unless asked to.
    schedule = sections.get("schedule") or {"name": "constant"}
    recipe = as_recipe(sections | {"data": data, "schedule": schedule, "engine": engine(sections)})
    network, planned = network_and_threads(plan_run(_weighing(source, weights), recipe, seed=seed), sections)
    start_from_pretrained(planned.recipe, network)
    device = choose_device(planned.recipe.engine["device"])
    return Run(
        recipe=planned.recipe,
        reasons=dict(planned.resolved.reasons),
        schema=planned.prepared.schema,
        model=network.to(device).eval(),
        environment=describe_environment() | {"device": str(device), "seed": seed},
    )


def pass_over(
    run: Run, source: Source, weights: Array | None, state: State | None, seed: int, *, keep_schedule: bool
) -> State:
    """Train ``run`` for one pass over rows, in place.

    Args:
        run: as :func:`begin` or a whole training made it.
        source: the rows.
        weights: of the rows, or None.
        state: as the pass before returned it; None after :func:`begin` or a whole training, whose weights
            are then where a fresh optimizer starts.
        seed: of the run.
        keep_schedule: whether the run's schedule goes on; else the rate is constant after a whole training,
            whose schedule has come to its end.

    Raises:
        DataError: rows that do not fit the first ones.
        DivergedError: a number became NaN or infinite; the network is as it was before.
    """
    part = encode_source(_weighing(source, weights), run.schema, run.preprocess)
    _refuse_single(part, run.model)
    recipe = run.recipe
    if state is None and run.history and not keep_schedule:
        sections = {name: dict(values) for name, values in recipe.items()}
        recipe = run.recipe = Recipe.of(sections | {"schedule": {"name": "constant"}})
    device = next(run.model.parameters()).device
    planned = Plan(source, _prepared(run, part), Resolved(recipe, {}), seed)
    before = clone(run.model.state_dict())
    with arithmetic(recipe.engine["threads"], device, recipe.engine["denormals"]):
        training = assemble(planned, run, device, weighted(part, recipe, seed, device, draws=len(part)))
        if state is not None:
            training.load_state_dict(state)
            forget = getattr(training.optimizer, "forget", None)
            if forget is not None:  # averages of rows: these are others
                forget()
        elif run.history:
            training.epoch, training.step = run.metrics["epochs"], run.metrics["steps"]
            training.history, training.seconds = list(run.history), run.metrics["seconds"]
            training.stopping.epochs = training.epoch
        training.stopped = ""
        training.stopping = dataclasses.replace(
            training.stopping,
            max_epochs=training.epoch + 1,
            patience=None,
            max_seconds=None,
            target=None,
            gradient_tolerance=None,
        )
        try:
            fit(training)
        except NotFinite as cause:
            run.model.load_state_dict(before)
            raise DivergedError(
                f"Training diverged: {cause}. The network was put back to where it was before these rows. "
                "Lower the learning rate, and look for extreme values among the rows."
            ) from None
    after: State = clone(training.state_dict() | {"best": None})
    if training.best is not None:
        run.model.load_state_dict(training.best)
    run.model.eval()
    run.history = training.history
    run.metrics = {
        "status": "finished",
        "task": run.schema.task,
        "best_epoch": training.epoch,
        "epochs": training.epoch,
        "steps": training.step,
        "seconds": training.seconds,
        "stopped": "max_epochs",
    }
    return after


def _weighing(source: Source, weights: Array | None) -> Source:
    """The source with its weights, and without the rows whose weight is 0."""
    if weights is None:
        return source
    kept = weights > 0
    return dataclasses.replace(
        source,
        frame=None if source.frame is None else source.frame.filter(kept),
        inputs=None if source.inputs is None else source.inputs[kept],
        targets=None if source.targets is None else source.targets[kept],
        weights=weights[kept] / weights.max(),
    )


def _prepared(run: Run, part: Part) -> Prepared:
    none = torch.empty(0)
    empty = Part(none, none, None, part.rows[:0])
    return Prepared(run.schema, run.preprocess, **dict.fromkeys(PARTS, empty) | {"train": part}, notes=())


def _refuse_single(part: Part, model: nn.Module) -> None:
    normed = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())
    if len(part) == 1 and normed:
        raise DataError("one row has no statistics for batch normalisation; give several rows at a time")
