"""The parts of a training, built from a plan."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from descend.augmentation.pipeline import AugmentedBatches, Pipeline, layout_of
from descend.augmentation.pixels import Pixels
from descend.data.batches import Batch, Batches, LoadedBatches, MemoryBatches, MovedBatches, Order
from descend.data.preparation import Part
from descend.data.schema import Schema
from descend.errors import Problem, RecipeError
from descend.optim.compiler_import import eager_step
from descend.process import exclusive, is_fork
from descend.process.forks import REMEDY
from descend.recipe.augment import build_augmentations
from descend.recipe.build import build_optimizer, build_schedule
from descend.recipe.compatibility import check_batches
from descend.recipe.constraints import (
    ActiveConstraint,
    build_average_projection,
    build_constraints,
    build_lagrangian,
)
from descend.recipe.facts import facts_of
from descend.recipe.penalties import build_penalty, build_row_penalty
from descend.recipe.scheduled import build_scheduled
from descend.runs.evaluate import measured
from descend.runs.plan import Plan
from descend.runs.run import Run
from descend.training.averaging import build_average
from descend.training.clipping import GradientSettings
from descend.training.composition import Composition
from descend.training.loop import Training
from descend.training.objective import Objective
from descend.training.stopping import build_stopping
from descend.training.threads import choose_threads

__all__ = [
    "assemble",
    "augmented",
    "evaluation_batches",
    "measured_threads",
    "monitored_losses",
    "order_of",
    "part_batches",
    "throwaway_steps",
]

EVALUATED_AT_ONCE = 1024
"""The number of rows of a torch ``Dataset`` that are evaluated together."""
BLOCK_BYTES = 2**18
"""The size of a block of adjacent rows with ``shuffle = "blocks"``: large enough for a disk's full speed."""
BLOCKS_IN_WINDOW = 1024
"""The number of blocks whose rows are shuffled together."""


def part_batches(part: Part, order: Order, device: torch.device, workers: int = 0) -> Batches:
    """Return the batches of a part, in memory on the device or loaded as needed; weights are scaled to mean 1."""
    weights = None if part.weights is None else part.weights / part.weights.mean()
    if part.inputs is not None and part.stored and device.type != "cpu":
        return MovedBatches(MemoryBatches(part.inputs, part.targets, weights, order), device)
    if part.inputs is not None:
        on_device = None if weights is None else weights.to(device)
        return MemoryBatches(part.inputs.to(device), part.targets.to(device), on_device, order)
    return LoadedBatches(
        part.dataset, part.rows.tolist(), part.targets, weights, order, device=device, workers=workers
    )


def blocks_of(schema: Schema) -> tuple[int, int]:
    """Return the number of rows in a block and in a shuffling window, from the size of an encoded row."""
    block = max(1, BLOCK_BYTES // (4 * math.prod(schema.input_shape)))
    return block, block * BLOCKS_IN_WINDOW


def order_of(planned: Plan) -> Order:
    """Return the order in which training rows are assigned to steps."""
    recipe, prepared = planned.recipe, planned.prepared
    return Order(
        len(prepared.train),
        recipe.data["batch_size"],
        recipe.gradient["accumulate"],
        recipe.data["sampling"],
        planned.seed,
        *(blocks_of(prepared.schema) if recipe.data["shuffle"] == "blocks" else ()),
    )


def evaluation_batches(part: Part, device: torch.device, workers: int = 0) -> Callable[[], Iterable[Batch]]:
    """Return all rows of a part in order. Rows in memory are one batch, which stays on the device after the first call."""
    inputs = part.inputs
    if inputs is not None and not (part.stored and device.type != "cpu"):

        @functools.cache
        def whole() -> list[Batch]:
            weights = None if part.weights is None else part.weights.to(device)
            return [Batch(inputs.to(device), part.targets.to(device), weights)]

        return whole
    order = Order(len(part), EVALUATED_AT_ONCE, sampling="in_order")
    batches = part_batches(part, order, device, workers)
    return lambda: (each for step in batches.epoch(0) for each in step)


def augmented(batches: Batches, planned: Plan, device: torch.device, loss: Any = None) -> Batches:
    """Return the batches with the recipe's augmentation applied."""
    schema, train = planned.prepared.schema, planned.prepared.train
    layout = layout_of(schema, planned.prepared.preprocess).to(device)
    methods = build_augmentations(planned.recipe, layout, facts_of(schema), loss)
    if not methods:
        return batches
    pixels = Pixels.of(schema, train.inputs).to(device) if layout.kind == "images" else None
    return AugmentedBatches(
        batches, Pipeline(methods, pixels=pixels, classes=len(schema.classes), seed=planned.seed)
    )


def assemble(planned: Plan, run: Run, device: torch.device, batches: Batches | None = None) -> Training:
    """Build the training of a run, ready to start; ``batches`` replace those of the plan."""
    recipe, prepared, seed = run.recipe, planned.prepared, planned.seed
    workers = recipe.engine["workers"]
    order = order_of(planned)
    check_batches(run.model, order.sizes())
    lagrangian = build_lagrangian(recipe, run.model)
    held: list[ActiveConstraint] = [*build_constraints(recipe, run.model, seed)]
    held += [] if lagrangian is None else [lagrangian]
    rows_of = _rows_of_steps(order, device) if batches is None else batches.rows
    batches = batches or part_batches(prepared.train, order, device, workers)
    loss: Any = run.loss
    batches = augmented(batches, planned, device, loss)
    for part in (prepared.train, prepared.validation, prepared.test):
        if len(part):
            loss.trust(part.targets)
    stop = recipe.stop
    total = stop["max_epochs"] * batches.steps_per_epoch
    schedule = build_schedule(recipe, steps_per_epoch=batches.steps_per_epoch, total_steps=total)
    objective = Objective(
        run.model,
        loss,
        device=device,
        gradient=GradientSettings(**recipe.gradient),
        penalty=build_penalty(recipe, run.model, held),
        row_penalty=build_row_penalty(recipe, run.model, loss),
        precision=recipe.engine["precision"],
        products=recipe.engine["products"],
        seed=seed,
    )
    optimizer = build_optimizer(recipe, run.model, held, loss=loss, seed=seed)
    average = getattr(optimizer, "average", None)
    if average is not None:
        objective.composition = Composition(average, rows_of, len(prepared.train))
    evaluate: Callable[[], dict[str, Tensor]] | None = None
    if len(prepared.validation):
        rows = evaluation_batches(prepared.validation, device, workers)
        metrics, losses = run.selection.each_epoch(), monitored_losses(run, prepared.validation, device)

        def on_validation() -> dict[str, Tensor]:
            return measured(run.predictor, rows(), losses, metrics)

        evaluate = on_validation

    return Training(
        model=run.model,
        objective=objective,
        optimizer=optimizer,
        schedule=schedule,
        batches=batches,
        stopping=build_stopping(stop, run.selection.better),
        evaluate=evaluate,
        monitor=run.selection.monitor,
        lagrangian=lagrangian,
        scheduled=build_scheduled(
            recipe, run.model, optimizer, steps_per_epoch=batches.steps_per_epoch, total_steps=total
        ),
        schedule_monitor=recipe.schedule.get("monitor", "validation"),
        average=build_average(
            objective.parameters,
            stop["average"],
            batches.steps_per_epoch,
            build_average_projection(recipe, run.model, held),
            optimizer,
        ),
    )


def monitored_losses(run: Run, validation: Part, device: torch.device) -> Mapping[str, Callable[..., Tensor]]:
    """Return the losses that are measured on the validation rows: the loss, and the objective if it is monitored."""
    if run.selection.monitor != "objective":
        return run.losses
    balanced = None if validation.balanced is None else validation.balanced.to(device)

    def objective(outputs: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        value: Tensor = run.loss(outputs, targets, weights if balanced is None else balanced)
        return value

    return {**run.losses, "objective": objective}


def _rows_of_steps(order: Order, device: torch.device) -> Callable[[int, int], Sequence[Tensor]]:
    """Return the row numbers of each batch of a step, by epoch and step; an epoch is moved to the device at once."""

    @functools.lru_cache(maxsize=1)
    def batches(epoch: int) -> tuple[Tensor, ...]:
        return torch.split(order.indices(epoch).to(device, non_blocking=True), order.sizes())

    return lambda epoch, step: batches(epoch)[step * order.accumulate : (step + 1) * order.accumulate]


def measured_threads(planned: Plan, network: nn.Module, device: torch.device) -> tuple[int, str]:
    """Return the number of CPU threads and the reason: the recipe's number, or one measured on copies."""
    specified = planned.recipe.engine["threads"]
    if specified != "auto":
        if int(specified) > 1 and device.type == "cpu" and is_fork():
            message = f"{specified} threads were specified, but this process is a fork, in which PyTorch has one thread"
            raise RecipeError([Problem("engine", "threads", message, f"use 1, or {REMEDY}")])
        return int(specified), ""
    if device.type != "cpu":
        return torch.get_num_threads(), "the arithmetic runs on another device"
    if planned.prepared.train.inputs is None:
        return 1, "rows are loaded one by one"
    with throwaway_steps(planned, network, device) as step:
        return choose_threads(step)


@contextmanager
def throwaway_steps(
    planned: Plan, network: nn.Module, device: torch.device
) -> Iterator[Callable[[], object]]:
    """Yield a training step to be timed, on copies: network and random state are left unchanged."""
    probe = Run(planned.recipe, {}, planned.prepared.schema, copy.deepcopy(network))
    training = assemble(planned, probe, device)
    step_batches = next(training.batches.epoch(0))
    training.model.train()
    with exclusive():
        rng = torch.get_rng_state()
        try:
            take_step = eager_step(training.optimizer)
            yield lambda: take_step(training.objective.at(step_batches, 0, 0))
        finally:
            torch.set_rng_state(rng)
