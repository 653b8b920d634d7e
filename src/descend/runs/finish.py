"""The end of a training: the best weights are evaluated on every part of the data and written."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from descend.constraints import KKT
from descend.data.batches import Order
from descend.data.preparation import Part
from descend.recipe.calibration import build_calibration
from descend.recipe.facts import facts_of
from descend.runs.build import evaluation_batches, monitored_losses, part_batches
from descend.runs.evaluate import LazyMapping, details, measured
from descend.runs.plan import Plan
from descend.runs.run import Run
from descend.training.evaluation import outputs_of
from descend.training.loop import STOPPED, Training
from descend.training.records import read_all, undefined_as_none

__all__ = ["Measurements", "calibrate", "finish_run", "measure_parts", "measurements_of"]

ROWS_AT_ONCE = 1024
"""The number of rows that are differentiated together."""

Measurements = dict[str, dict[str, float | None]]
"""Loss and metrics by part of the data. The report shows rows of the last part."""


def finish_run(
    run: Run,
    training: Training,
    planned: Plan,
    device: torch.device,
    *,
    tested: bool = True,
    measurements: Measurements | None = None,
) -> None:
    """Load the best weights into the network, evaluate every part, and write the run.

    A run that was interrupted is not written, and gets the measurements of its best epoch on the validation rows only. One
    that is finished although it was stopped (:data:`descend.training.loop.STOPPED`) has the status "stopped".

    Args:
        run: the run to complete.
        training: the training, finished or interrupted.
        planned: the plan of the run.
        device: the device of the network.
        tested: whether the test part is evaluated, which should happen once.
        measurements: the result of :func:`measurements_of` in another process, if there is one.
    """
    _take_best(run, training)
    prepared = planned.prepared
    interrupted, early = training.stopped == "interrupted", training.stopped in (STOPPED, "diverged")
    run.metrics = {
        "status": "interrupted" if interrupted else "stopped" if early else "finished",
        "task": prepared.schema.task,
        "best_epoch": training.stopping.best_epoch,
        "epochs": training.epoch,
        "steps": training.step,
        "seconds": training.seconds,
        "stopped": "interrupted" if training.stopped == STOPPED else training.stopped,
    }
    if interrupted:
        best = training.history[training.stopping.best_epoch - 1] if training.history else {}
        run.metrics |= {"validation": dict(best["validation"])} if "validation" in best else {}
        return
    calibrate(run, planned, device)
    measure_parts(run, planned, device, tested=tested, measurements=measurements)
    if training.lagrangian is not None:
        run.metrics["constraints"] = _constraints(training, prepared.train, device)
    if run.path is not None:
        run.write_files()


def _constraints(training: Training, train: Part, device: torch.device) -> dict[str, Any]:
    """The KKT residual at the kept weights and multipliers, for the objective on all training rows without dropout."""
    assert training.lagrangian is not None
    order = Order(len(train), ROWS_AT_ONCE, accumulate=len(train), sampling="in_order")
    (rows,) = part_batches(train, order, device).epoch(0)
    objective = training.objective.plain().at(rows, 0, 0)
    objective.wants_norm = True
    objective()
    assert objective.norm is not None
    found = {name: float(value) for name, value in training.lagrangian.metrics().items()}
    feasible = bool(found.pop("feasible"))
    # The gradient of the objective is that of the Lagrangian at the next estimate of the multipliers.
    residual = KKT(stationarity=float(objective.norm), **found)
    return {
        "kkt": residual.residual,
        **dataclasses.asdict(residual),
        "feasible": feasible,
        "multipliers": [each.tolist() for each in training.lagrangian.estimates()],
    }


def measure_parts(
    run: Run,
    planned: Plan,
    device: torch.device,
    *,
    tested: bool = True,
    measurements: Measurements | None = None,
) -> None:
    """Add the loss and metrics of each part to the run, and of the last part the details that the report shows."""
    found = _measured_parts(run, planned, device, tested) if measurements is None else measurements
    run.metrics |= found
    if found:
        name = list(found)[-1]
        part: Part = getattr(planned.prepared, name)
        rows = evaluation_batches(part, device)
        evaluation = LazyMapping(
            lambda: details(run.predictor, rows(), run.measure, part.rows, planned.source, name)
        )
        # Without a folder the details may never be read, so they are computed on demand.
        run.evaluation = evaluation if run.path is None else dict(evaluation)


def measurements_of(
    run: Run, training: Training, planned: Plan, device: torch.device, *, tested: bool = True
) -> Measurements:
    """Return loss and metrics of each part with the best weights, for :func:`finish_run` in another process.

    This function uses tensors only, because it runs in forked workers: the thread pools of other libraries, such as that
    of the data frames, do not exist after a fork.
    """
    _take_best(run, training)
    calibrate(run, planned, device)
    return _measured_parts(run, planned, device, tested)


def _take_best(run: Run, training: Training) -> None:
    if training.best is not None:
        run.model.load_state_dict(training.best)
    run.model.eval()
    run.history = training.history


def calibrate(run: Run, planned: Plan, device: torch.device) -> None:
    """Fit the calibration that the recipe chooses to the network's outputs on the validation rows."""
    calibration = build_calibration(run.recipe, facts_of(run.schema))
    run.calibrate(None if calibration is None else calibration.to(device))
    if calibration is None:
        return
    several = run.schema.task == "multi_label"
    batches = list(evaluation_batches(planned.prepared.validation, device)())
    outputs = torch.cat(
        [outputs_of(run.model, each.inputs, precision=run.predictor.precision) for each in batches]
    )
    targets = torch.cat([each.targets for each in batches])
    given = [each.weights for each in batches if each.weights is not None]
    calibration.fit(outputs, targets, torch.cat(given) if given else None, labels=several)


def _measured_parts(run: Run, planned: Plan, device: torch.device, tested: bool) -> Measurements:
    found: Measurements = {}
    # Training and validation rows are measured as in the history, since the calibration was fitted to the latter.
    predictor, uncalibrated = run.predictor, dataclasses.replace(run.predictor, calibration=None)
    held_out = len(planned.prepared.validation) + len(planned.prepared.test) > 0
    for name in ("train", "validation", *(["test"] if tested else [])):
        part: Part = getattr(planned.prepared, name)
        if len(part):
            rows = evaluation_batches(part, device)
            losses = monitored_losses(run, part, device) if name == "validation" else run.losses
            # Trials of a search, which are not tested, and the training rows are measured as at each epoch.
            every = tested and (name != "train" or not held_out)
            metrics = run.selection.at_end(len(part)) if every else run.selection.each_epoch()
            values = measured(predictor if name == "test" else uncalibrated, rows(), losses, metrics)
            found[name] = undefined_as_none(read_all(values))
    return found
