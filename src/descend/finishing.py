"""The end of a training: the best weights, measured on every part, and written."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from descend.assembly import evaluation_batches, part_batches
from descend.constraints import KKT
from descend.data.batches import Order
from descend.data.prepare import Part, Prepared
from descend.outcome import Later, details, measured
from descend.planning import Plan
from descend.run import Run
from descend.training.loop import Training

__all__ = ["finish_run", "measure_parts", "take_over"]

ROWS_AT_ONCE = 1024
"""Rows that are differentiated together."""


def finish_run(
    run: Run, training: Training, planned: Plan, device: torch.device, *, tested: bool = True
) -> None:
    """Take the best weights, measure every part, and write the run.

    Args:
        run: what training leaves.
        training: done, or interrupted.
        planned: what was trained.
        device: where the network is.
        tested: whether the test part is measured; it should be once.
    """
    _take_best(run, training)
    prepared = planned.prepared
    interrupted = training.stopped == "interrupted"
    run.metrics = {
        "status": "interrupted" if interrupted else "finished",
        "task": prepared.schema.task,
        "best_epoch": training.stopping.best_epoch,
        "epochs": training.epoch,
        "steps": training.step,
        "seconds": training.seconds,
        "stopped": training.stopped,
    }
    if interrupted:
        return
    measure_parts(run, planned, device, tested=tested)
    if training.lagrangian is not None:
        run.metrics["constraints"] = _constraints(training, prepared.train, device)
    if run.path is not None:
        run.write_files()


def _constraints(training: Training, train: Part, device: torch.device) -> dict[str, Any]:
    """The KKT residual of the kept weights and their multipliers, of the objective on all training rows without dropout."""
    assert training.lagrangian is not None
    order = Order(len(train), ROWS_AT_ONCE, accumulate=len(train), sampling="in_order")
    (rows,) = part_batches(train, order, device).epoch(0)
    objective = training.objective.plain().at(rows, 0, 0)
    objective.wants_norm = True
    objective()
    assert objective.norm is not None
    found = {name: float(value) for name, value in training.lagrangian.measured().items()}
    feasible = bool(found.pop("feasible"))
    # The objective's gradient is that of the Lagrangian at the multipliers' next estimate.
    residual = KKT(stationarity=float(objective.norm), **found)
    return {
        "kkt": residual.residual,
        **dataclasses.asdict(residual),
        "feasible": feasible,
        "multipliers": [each.tolist() for each in training.lagrangian.estimates()],
    }


def measure_parts(run: Run, planned: Plan, device: torch.device, *, tested: bool = True) -> None:
    """Loss and metrics of each part, the test part if ``tested``; of the last what the report shows of single rows."""
    prepared = planned.prepared
    names = _measured_parts(prepared, tested)
    for name in names:
        rows = evaluation_batches(getattr(prepared, name), device)
        run.metrics[name] = {k: float(v) for k, v in measured(run.predictor, rows(), run.measure).items()}
    if names:
        evaluation = _single_rows(run, planned, device, names[-1])
        # A run without a folder may never be asked for it.
        run.evaluation = evaluation if run.path is None else dict(evaluation)


def take_over(
    run: Run,
    training: Training,
    planned: Plan,
    device: torch.device,
    metrics: dict[str, Any],
    *,
    tested: bool = True,
) -> None:
    """What :func:`finish_run` leaves, where another process has measured the parts and written the run.

    Args:
        run: what training leaves.
        training: done, with its best weights.
        planned: what was trained.
        device: where the network is.
        metrics: that were measured.
        tested: whether the test part is among them.
    """
    _take_best(run, training)
    run.metrics = metrics
    names = _measured_parts(planned.prepared, tested)
    if names:
        run.evaluation = _single_rows(run, planned, device, names[-1])


def _take_best(run: Run, training: Training) -> None:
    if training.best is not None:
        run.model.load_state_dict(training.best)
    run.model.eval()
    run.history = training.history


def _measured_parts(prepared: Prepared, tested: bool) -> list[str]:
    """The parts that have rows and are to be measured, in order."""
    names = ("train", "validation", *(["test"] if tested else []))
    return [name for name in names if len(getattr(prepared, name))]


def _single_rows(run: Run, planned: Plan, device: torch.device, name: str) -> Later:
    part: Part = getattr(planned.prepared, name)
    rows = evaluation_batches(part, device)
    return Later(lambda: details(run.predictor, rows(), run.measure, part.rows, planned.source, name))
