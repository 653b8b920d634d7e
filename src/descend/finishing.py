"""The end of a training: the best weights, measured on every part, and written."""

from __future__ import annotations

import torch

from descend.assembly import evaluation_batches
from descend.data.prepare import Part
from descend.outcome import Later, details, measured
from descend.planning import Plan
from descend.run import Run
from descend.training.loop import Training

__all__ = ["finish_run", "measure_parts"]


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
    if training.best is not None:
        run.model.load_state_dict(training.best)
    run.model.eval()
    run.history = training.history
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
    if run.path is not None:
        run.write_files()


def measure_parts(run: Run, planned: Plan, device: torch.device, *, tested: bool = True) -> None:
    """Loss and metrics of each part, the test part if ``tested``; of the last what the report shows of single rows."""
    prepared = planned.prepared
    shown: str | None = None
    for name in ("train", "validation", *(["test"] if tested else [])):
        part: Part = getattr(prepared, name)
        if len(part):
            rows = evaluation_batches(part, device)
            run.metrics[name] = {k: float(v) for k, v in measured(run.predictor, rows(), run.measure).items()}
            shown = name
    if shown is not None:
        part, name = getattr(prepared, shown), shown
        rows = evaluation_batches(part, device)
        evaluation = Later(
            lambda: details(run.predictor, rows(), run.measure, part.rows, planned.source, name)
        )
        # A run without a folder may never be asked for it.
        run.evaluation = evaluation if run.path is None else dict(evaluation)
