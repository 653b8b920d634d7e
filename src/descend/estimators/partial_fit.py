"""One pass over new rows: training on data that arrive in pieces."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import nn

from descend.data.class_weights import class_weighted
from descend.data.labels import classes_of, codes_of
from descend.data.messages import listed
from descend.data.preparation import Part, Prepared, encode_source
from descend.data.source import PARTS, Array, Source, take_rows
from descend.errors import DataError, DivergedError, UserError
from descend.estimators.fitting import network_and_threads, single_thread, weighted_batches
from descend.estimators.parameters import Sections
from descend.process import in_fork
from descend.recipe import Recipe
from descend.recipe.resolve import Resolved
from descend.recipe.scheduled import SCHEDULED_KEYS
from descend.recipe.transfer import start_from_pretrained
from descend.runs.build import assemble
from descend.runs.environment import describe_environment
from descend.runs.plan import Plan, choose_device, plan_run
from descend.runs.run import Run
from descend.training.arithmetic import arithmetic
from descend.training.loop import NotFinite, fit
from descend.training.state import clone

__all__ = ["class_weighted_pass", "initial_run", "train_pass"]

State = dict[str, Any]
"""State from which training continues; plain values and tensors."""


def initial_run(source: Source, weights: Array | None, sections: Sections, seed: int) -> Run:
    """Return a run with an untrained network, and with columns and scaling fitted on the first rows.

    All columns of an array are treated as numeric, including those that are constant so far. There is no validation
    part.

    Args:
        source: the first rows and targets; ``classes`` names the classes of all later rows.
        weights: weights of the rows, or None.
        sections: sections of the recipe.
        seed: seed of the run.

    Raises:
        UserError: a column is encoded by its mean target, which later rows would change.
    """
    data = sections["data"] | {"validation": 0.0}
    frame = source.frame
    if frame is not None and not source.named and all(kind.is_numeric() for kind in frame.dtypes):
        data["columns"] = dict.fromkeys(frame.columns, "numeric") | data.get("columns", {})
    scheduled = [key for key in SCHEDULED_KEYS if _value(sections, key) != "constant"]
    if scheduled:
        raise UserError(
            f"partial_fit: {' and '.join(scheduled)} depend on the end of training, and the number of passes is unknown; use "
            '"constant" for it, or train with fit'
        )
    # The number of passes is unknown, so the learning rate is constant unless a schedule is specified.
    schedule = sections.get("schedule") or {"name": "constant"}
    recipe = Recipe.of(sections | {"data": data, "schedule": schedule, "engine": single_thread(sections)})
    network, planned = network_and_threads(
        plan_run(_weighted_source(source, weights), recipe, seed=seed, ensembles=False), sections
    )
    encoded = [
        column.name for column in planned.prepared.schema.columns if column.encoding in ("target", "both")
    ]
    if encoded:
        raise UserError(
            f"partial_fit: the column {listed(encoded, 3)} is encoded by its mean target, which is fitted on all training "
            "rows at once, out of fold; call fit first, or use recipe={'data': {'categories': 'onehot'}}"
        )
    start_from_pretrained(planned.recipe, network)
    device = choose_device(planned.recipe.engine["device"])
    return Run(
        recipe=planned.recipe,
        reasons=dict(planned.resolved.reasons),
        schema=planned.prepared.schema,
        model=network.to(device).eval(),
        environment=describe_environment() | {"device": str(device), "seed": seed},
    )


def _value(sections: Sections, key: str) -> Any:
    section, _, name = key.partition(".")
    return sections.get(section, {}).get(name, "constant")


def class_weighted_pass(
    sections: Sections, source: Source, weights: Array | None, classes: Array | None
) -> Array | None:
    """Return the weights of rows times those of their classes, for one pass.

    Args:
        sections: sections of the recipe.
        source: the rows and targets.
        weights: weights of the rows, or None.
        classes: all classes; None for a regression.

    Raises:
        UserError: "balanced", which depends on all rows; or weights that do not fit the classes.
    """
    chosen = sections["data"].get("class_weights", "none")
    if chosen == "balanced":
        raise UserError(
            "partial_fit: class_weight='balanced' depends on the rows of all passes, which are unknown; specify the weight "
            "of each class, such as class_weight={'rare': 5.0}"
        )
    if (
        chosen == "none"
        or classes is None
        or not len(classes)
        or source.targets is None
        or source.targets.ndim > 1
    ):
        return weights
    labels, _ = classes_of(classes)
    codes = codes_of(source.targets, labels)
    return class_weighted(chosen, codes, labels, np.arange(len(codes)), weights, "classification")


def train_pass(
    run: Run, source: Source, weights: Array | None, state: State | None, seed: int, *, keep_schedule: bool
) -> State:
    """Train ``run`` in place for one pass over rows.

    Args:
        run: a run from :func:`initial_run` or from a complete training.
        source: the rows.
        weights: weights of the rows, or None.
        state: the state returned by the previous pass; None after :func:`initial_run` or a complete training, from
            whose weights a new optimizer starts.
        seed: seed of the run.
        keep_schedule: whether the schedule of the run continues; otherwise the learning rate is constant after a
            complete training, whose schedule has ended.

    Raises:
        DataError: rows that do not match the first ones.
        DivergedError: a number became NaN or infinite; the network is restored.
    """
    part = encode_source(_weighted_source(source, weights), run.schema, run.preprocess)
    _check_batch_norm(part, run.model)
    recipe = run.recipe
    if state is None and run.history and not keep_schedule:
        sections = {name: dict(values) for name, values in recipe.items()}
        recipe = run.recipe = Recipe.of(sections | {"schedule": {"name": "constant"}})
    device = next(run.model.parameters()).device
    planned = Plan(source, _prepared(run, part), Resolved(recipe, {}), seed)
    before = clone(run.model.state_dict())
    with arithmetic(recipe.engine["threads"], device, recipe.engine["denormals"]):
        training = assemble(
            planned, run, device, weighted_batches(part, recipe, seed, device, samples=len(part))
        )
        if state is not None:
            training.load_state_dict(state)
            forget = getattr(training.optimizer, "forget", None)
            if forget is not None:  # per-row averages belong to the previous rows
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
                f"Training diverged: {cause}. The network was restored to its state before these rows. "
                "Lower the learning rate, and check the rows for extreme values."
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


@in_fork
def _weighted_source(source: Source, weights: Array | None) -> Source:
    """Return the source with its weights and without the rows of weight 0."""
    if weights is None:
        return source
    kept = weights > 0
    return dataclasses.replace(
        source,
        frame=None if source.frame is None else take_rows(source.frame, np.flatnonzero(kept)),
        inputs=None if source.inputs is None else source.inputs[kept],
        targets=None if source.targets is None else source.targets[kept],
        weights=weights[kept] / weights.max(),
    )


def _prepared(run: Run, part: Part) -> Prepared:
    none = torch.empty(0)
    empty = Part(none, none, None, part.rows[:0])
    return Prepared(run.schema, run.preprocess, **dict.fromkeys(PARTS, empty) | {"train": part}, notes=())


def _check_batch_norm(part: Part, model: nn.Module) -> None:
    batch_norm = any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules())
    if len(part) == 1 and batch_norm:
        raise DataError("batch normalization needs at least two rows, got one; pass several rows at a time")
