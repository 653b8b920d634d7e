"""A run in about ten lines of text: scores, epochs, choices, folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from descend.data.schema import Schema
from descend.metrics import Selection
from descend.recipe import Recipe
from descend.recipe.toml import path_of
from descend.report.formatting import NO_BREAK, TASKS, TIMES, count, duration, listing, metric, score

__all__ = ["DescribedRun", "describe_run", "described_scores", "stop_reason"]

MOST = 4
"""The number of metrics that are shown in addition to the loss."""

PARTS = ("test", "validation", "train")

ENDS: Mapping[str, str] = {
    "finished": "finished",
    "stopped": "stopped before its end",
    "interrupted": "interrupted",
    "failed": "diverged",
}


class DescribedRun(Protocol):
    """What a description reads of a run (:class:`descend.runs.run.Run`)."""

    recipe: Recipe
    schema: Schema
    model: nn.Module
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    environment: dict[str, Any]
    selection: Selection
    path: Path | None


def describe_run(run: DescribedRun) -> str:
    """Return the description of a run, the ``repr`` of :class:`~descend.runs.run.Run`."""
    task = TASKS.get(run.schema.task, run.schema.task.replace("_", " "))
    status = str(run.metrics.get("status", ""))
    state = ENDS.get(status, status) or "not trained yet"
    head = f"Run on {run.schema.name or 'data'}: {task} of {listing(run.schema.target_names)}, {state}"
    lines = [f"  {name + ':':<12}{text}" for name, text in _facts(run) if text]
    return "\n".join([head, *lines]).replace(NO_BREAK, " ")


def _facts(run: DescribedRun) -> Iterator[tuple[str, str]]:
    found = run.metrics
    for part in PARTS:
        if isinstance(found.get(part), Mapping):
            yield part, described_scores(found[part])
    yield "epochs", _course(run)
    if isinstance(refit := found.get("refit"), Mapping):
        yield "refit", f"on all {count(refit['rows'])} rows; the scores are those of the training before"
    rows = [f"{count(run.schema.rows.get(part, 0))} {part}" for part in reversed(PARTS)]
    yield (
        "rows",
        ", ".join(rows) + f"; {count(len(run.schema.used))} columns"
        if run.schema.columns
        else ", ".join(rows),
    )
    yield "network", _network(run)
    yield "training", _training(run)
    yield "message", str(found.get("message", "")).partition("\n")[0]
    yield "folder", str(run.path) if run.path is not None else "not saved; run.save(folder) writes it"


def described_scores(values: Mapping[str, Any]) -> str:
    """Return metrics in one line, the loss last.

    >>> described_scores({"loss": 0.25, "accuracy": 0.9}).replace(NO_BREAK, " ")
    'accuracy 90.0 %, loss 0.25'
    """
    numbers = {
        name: value for name, value in values.items() if value is None or isinstance(value, int | float)
    }
    shown = [*[name for name in numbers if name != "loss"][:MOST], *(["loss"] if "loss" in numbers else [])]
    return ", ".join(f"{metric(name)} {score(name, numbers[name])}" for name in shown)


def _course(run: DescribedRun) -> str:
    found = run.metrics
    if "epochs" not in found:
        return f"{count(len(run.history))}" if run.history else ""
    text = f"{count(found['epochs'])} in {duration(found.get('seconds'))}"
    if found.get("stopped"):
        text += f"; {stop_reason(run)}"
    if found.get("best_epoch") and "validation" in found:
        text += f"; best: epoch {count(found['best_epoch'])}, whose weights were kept"
    return text


def stop_reason(run: DescribedRun) -> str:
    """Return why training ended, as a clause."""
    stop, reason = run.recipe.stop, str(run.metrics.get("stopped", ""))
    monitor = metric(run.selection.monitor)
    return {
        "max_epochs": "the maximum number of epochs was reached",
        "gradient_tolerance": f"the gradient norm is at most {stop.get('gradient_tolerance')}",
        "patience": f"the validation {monitor} did not improve for {stop.get('patience')} epochs",
        "max_seconds": f"the time limit of {stop.get('max_seconds')} seconds was reached",
        "target": f"the target {monitor} of {stop.get('target')} was reached",
        "minutes": f"the time of {_minutes(run.recipe)} was spent",
        "max_rounds": f"{run.recipe.model.get('max_rounds')} rounds were trained",
        "interrupted": "training was interrupted",
        "diverged": "training diverged",
    }.get(reason, f"of a request ({reason})" if reason else "")


def _minutes(recipe: Recipe) -> str:
    """Return the time of the preset best in words."""
    minutes = float(recipe.model.get("minutes") or 0.0)
    return f"{minutes:g} minute{'' if minutes == 1.0 else 's'}"


def _network(run: DescribedRun) -> str:
    recorded = run.environment.get("model")
    passed = recorded.get("passed") if isinstance(recorded, Mapping) else None
    model = {"name": passed} if isinstance(passed, str) else run.recipe.model
    text = str(path_of(model.get("name")))
    if model.get("hidden"):
        text += f", hidden layers {TIMES.join(str(width) for width in model['hidden'])}"
    if model.get("activation"):
        text += f", {path_of(model['activation']) if not isinstance(model['activation'], str) else model['activation']}"
    text += f", {count(sum(p.numel() for p in run.model.parameters()))} parameters"
    members = run.metrics.get("members")
    if isinstance(members, Mapping):
        text += f"; {len(members['kept'])} of {len(members['validation'])} trained networks"
    return text


def _training(run: DescribedRun) -> str:
    recipe = run.recipe
    optimizer = str(path_of(recipe.optimizer.get("name")))
    if isinstance(recipe.optimizer.get("lr"), int | float):
        optimizer += f" with learning rate {recipe.optimizer['lr']:g}"
    schedule, loss = path_of(recipe.schedule.get("name")), path_of(recipe.loss.get("name"))
    return f"{optimizer}, {schedule} schedule, {loss} loss, batches of {count(recipe.data.get('batch_size'))}"
