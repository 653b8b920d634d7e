"""From a plan to the parts of a training, ready to start."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from descend.data.batches import Batch, Batches, LoadedBatches, MemoryBatches, Order
from descend.data.prepare import Part
from descend.metrics import better
from descend.outcome import details, measured
from descend.planning import Plan
from descend.recipe.build import build_optimizer, build_penalty, build_schedule
from descend.run import Run
from descend.training.averaging import WeightAverage
from descend.training.loop import Training
from descend.training.objective import Objective
from descend.training.settings import GradientSettings
from descend.training.stopping import Stopping
from descend.training.threads import choose_threads

__all__ = ["assemble", "evaluation_batches", "measure_parts", "measured_threads", "part_batches"]

EVALUATED_AT_ONCE = 1024
"""Rows of a torch ``Dataset`` that are evaluated together."""


def part_batches(part: Part, order: Order, device: torch.device, workers: int = 0) -> Batches:
    """The batches of a part, in memory on the device, or fetched; weights are scaled to a mean of 1."""
    weights = None if part.weights is None else part.weights / part.weights.mean()
    if part.inputs is not None:
        own = None if weights is None else weights.to(device)
        return MemoryBatches(part.inputs.to(device), part.targets.to(device), own, order)
    return LoadedBatches(
        part.dataset, part.rows.tolist(), part.targets, weights, order, device=device, workers=workers
    )


def evaluation_batches(part: Part, device: torch.device, workers: int = 0) -> Callable[[], list[Batch]]:
    """All rows of a part in order; what is in memory is one batch that stays on the device."""
    if part.inputs is not None:
        weights = None if part.weights is None else part.weights.to(device)
        whole = [Batch(part.inputs.to(device), part.targets.to(device), weights)]
        return lambda: whole
    order = Order(len(part), EVALUATED_AT_ONCE, sampling="in_order")
    batches = part_batches(part, order, device, workers)
    return lambda: [each for step in batches.epoch(0) for each in step]


def assemble(planned: Plan, run: Run, device: torch.device, batches: Batches | None = None) -> Training:
    """The parts of the training, ready to start; ``batches`` stand in for the plan's own."""
    recipe, prepared, seed = run.recipe, planned.prepared, planned.seed
    workers = recipe.engine["workers"]
    order = Order(
        len(prepared.train),
        recipe.data["batch_size"],
        recipe.gradient["accumulate"],
        recipe.data["sampling"],
        seed,
    )
    batches = batches or part_batches(prepared.train, order, device, workers)
    loss: Any = run.loss
    loss.trust(prepared.train.targets)
    stop = recipe.stop
    total = stop["max_epochs"] * batches.steps_per_epoch
    schedule = build_schedule(recipe, steps_per_epoch=batches.steps_per_epoch, total_steps=total)
    objective = Objective(
        run.model,
        loss,
        device=device,
        gradient=GradientSettings(**recipe.gradient),
        penalty=build_penalty(recipe, run.model),
        precision=recipe.engine["precision"],
        products=recipe.engine["products"],
        seed=seed,
    )
    evaluate: Callable[[], dict[str, Tensor]] | None = None
    if len(prepared.validation):
        rows = evaluation_batches(prepared.validation, device, workers)
        evaluate = lambda: measured(run.predictor, rows(), run.measure)  # noqa: E731 - one line
    return Training(
        model=run.model,
        objective=objective,
        optimizer=build_optimizer(recipe, run.model),
        schedule=schedule,
        batches=batches,
        stopping=Stopping(
            max_epochs=stop["max_epochs"],
            patience=stop.get("patience"),
            larger_is_better=better(stop["monitor"]) == "higher",
            max_seconds=stop.get("max_seconds"),
            target=stop.get("target"),
            min_improvement=stop["min_improvement"],
        ),
        evaluate=evaluate,
        monitor=stop["monitor"],
        schedule_hears=recipe.schedule.get("monitor", "validation"),
        average=WeightAverage(objective.parameters, stop["average"] * batches.steps_per_epoch)
        if stop["average"]
        else None,
    )


def measure_parts(run: Run, planned: Plan, device: torch.device) -> None:
    """Loss and metrics of each part, and of the last of them what the report shows of single rows."""
    prepared = planned.prepared
    shown: str | None = None
    for name in ("train", "validation", "test"):
        part: Part = getattr(prepared, name)
        if len(part):
            rows = evaluation_batches(part, device)
            run.metrics[name] = {k: float(v) for k, v in measured(run.predictor, rows(), run.measure).items()}
            shown = name
    if shown is not None:
        part = getattr(prepared, shown)
        rows = evaluation_batches(part, device)
        run.evaluation = details(run.predictor, rows(), run.measure, part.rows, planned.source, shown)


def measured_threads(planned: Plan, network: nn.Module, device: torch.device) -> tuple[int, str]:
    """The number of CPU threads: as said, or measured on throw-away copies."""
    said = planned.recipe.engine["threads"]
    if said != "auto":
        return int(said), ""
    if device.type != "cpu":
        return torch.get_num_threads(), "the arithmetic runs on another device"
    if planned.prepared.train.inputs is None:
        return 1, "rows are loaded one by one"
    probe = Run(planned.recipe, {}, planned.prepared.schema, copy.deepcopy(network))
    training = assemble(planned, probe, device)
    step_batches = next(training.batches.epoch(0))
    training.model.train()
    rng = torch.get_rng_state()
    try:
        return choose_threads(lambda: training.optimizer.step(training.objective.at(step_batches, 0, 0)))  # type: ignore[arg-type]
    finally:
        torch.set_rng_state(rng)
