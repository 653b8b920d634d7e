"""The output after training, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.cli.preview import PART_NAMES, plain_table
from descend.metrics import LOSSES
from descend.report.formatting import count, duration, listing, metric, score
from descend.report.refit_note import refit_note

if TYPE_CHECKING:
    from rich.console import Console

    from descend.runs.run import Run

__all__ = ["answer_of", "run_scores", "scores", "summary", "written_report"]

PARTS = ("train", "validation", "test")

MOST_COLUMNS = 6
"""The largest number of metrics that are columns of a table; more are rows."""


def summary(run: Run, report: Path | None, console: Console) -> None:
    """Print the scores of each part, the course of training, and the paths of the results."""
    console.print()
    console.print(run_scores(run))
    if _standardized(run):
        targets = listing(run.schema.target_names, 3)
        console.print(
            f"The loss is that of the standardized target; the other numbers are in the units of {targets}."
        )
    if explained := _objective(run):
        console.print(explained)
    if run.calibration is not None and "test" in run.metrics:
        console.print(
            "The test loss is that of calibrated probabilities, the others are without calibration."
        )
    console.print(_course(run))
    if note := refit_note(run.metrics):
        console.print(note.replace("\N{NO-BREAK SPACE}", " "))
    console.print(f"Run     {run.path}", soft_wrap=True)
    if report is not None:
        console.print(f"Report  {report}", soft_wrap=True)


def run_scores(run: Run) -> Any:
    """Return a table of the losses and of the metrics that were measured at each epoch; the report has all metrics."""
    parts = {part: run.metrics[part] for part in PARTS if part in run.metrics}
    shown = {*LOSSES, *(each.name for each in run.selection.each_epoch())}
    return scores(
        {part: {name: v for name, v in values.items() if name in shown} for part, values in parts.items()}
    )


def scores(parts: Mapping[str, Mapping[str, float | None]]) -> Any:
    """Return a table with a row per part and a column per metric, or, for many metrics, with a row per metric."""
    names = list(dict.fromkeys(name for values in parts.values() for name in values))
    if len(names) > MOST_COLUMNS:
        table = plain_table("", *parts, right=list(parts))
        for name in names:
            cells = [
                score(name, values.get(name)).replace("\N{NO-BREAK SPACE}", " ") for values in parts.values()
            ]
            table.add_row(metric(name), *cells)
        return table
    headings = [metric(name) for name in names]
    table = plain_table("", *headings, right=headings)
    for part, values in parts.items():
        shown = [score(name, values.get(name)).replace("\N{NO-BREAK SPACE}", " ") for name in names]
        table.add_row(PART_NAMES.get(part, part), *shown, style="bold" if part == "test" else None)
    return table


def _standardized(run: Run) -> bool:
    """Whether the loss is measured on standardized targets, in other units than the metrics."""
    schema = run.schema
    return not schema.classes and (set(schema.target_scale) != {1.0} or set(schema.target_mean) != {0.0})


def _objective(run: Run) -> str:
    """What the objective is where its value is shown and differs from the loss; empty otherwise."""
    values = run.metrics.get("validation", {})
    if "objective" not in values or values["objective"] == values["loss"]:
        return ""
    smoothed = ["label smoothing"] if run.recipe.loss.get("label_smoothing") else []
    balanced = ["class weights"] if run.recipe.data.get("class_weights", "none") != "none" else []
    parts = " and ".join(smoothed + balanced)
    chosen = ", which early stopping monitors" if run.selection.monitor == "objective" else ""
    return f"The objective is the loss with {parts}{chosen}." if parts else ""


def _course(run: Run) -> str:
    found = run.metrics
    epochs, steps = found["epochs"], found["steps"]
    text = (
        f"{count(epochs)} epoch{'s' if epochs != 1 else ''} ({count(steps)} steps) in "
        f"{duration(found['seconds'])}".replace("\N{NO-BREAK SPACE}", " ")
    )
    from descend.runs.description import stop_reason

    why = stop_reason(run)
    best = f"; the weights of epoch {found['best_epoch']} were kept" if "validation" in found else ""
    early = ""
    if found.get("status") == "stopped":
        early = (
            f" The run is not trained to its end; continue it with descend train --resume --out {run.path}"
        )
    return f"{text}; stopped because {why}{best}.{_members(found)}{_distilled(found)}{_constraints(found)}{early}"


def _distilled(found: Mapping[str, Any]) -> str:
    """What one network in place of the ensemble has lost in its score, and gained in time."""
    distilled = found.get("distilled")
    if distilled is None:
        return ""
    part = "test" if "test" in found else "validation"
    before, after = distilled["ensemble"].get(part, {}), found.get(part, {})
    name = next((each for each in ("accuracy", "r2", "loss") if each in before and each in after), None)
    lost = (
        ""
        if name is None
        else f"{metric(name)} on the {PART_NAMES.get(part, part)} rows {score(name, before[name])} → {score(name, after[name])}, "
    )
    slow, fast = distilled["milliseconds"]
    return (
        f" It was distilled into one network: {lost}1,000 rows in {slow['1000']:.3g} → {fast['1000']:.3g} ms, "
        f"{count(distilled['parameters'][0])} → {count(distilled['parameters'][1])} weights."
    )


def _members(found: Mapping[str, Any]) -> str:
    """Which of several networks were kept; the epochs above are those of the best one."""
    members = found.get("members")
    if members is None:
        return ""
    kept, trained, weights = len(members["kept"]), len(members["validation"]), members.get("weights")
    if weights:
        shares = ", ".join(f"{weight:.2f}" for weight in sorted(weights, reverse=True))
        what = f"network {members['kept'][0] + 1}" if kept == 1 else f"the mean of {kept}"
        return f" The model is {what} of the {trained} networks" + (
            f", with the weights {shares}." if kept > 1 else "."
        )
    what = "the best" if kept == 1 else f"an ensemble of the {kept} best" if kept < trained else "an ensemble"
    return f" This is {what} of {trained} networks."


def _constraints(found: Mapping[str, Any]) -> str:
    """Whether general constraints are satisfied, and the KKT residual."""
    constraints = found.get("constraints")
    if constraints is None:
        return ""
    violated = f"violated by {constraints['violation']:.2g}"
    return (
        f" The constraints are {'satisfied' if constraints['feasible'] else violated}; "
        f"the KKT residual is {constraints['kkt']:.2g}."
    )


def answer_of(run: Run, report: Path | None) -> dict[str, Any]:
    """Return the JSON object of ``descend train --json``."""
    found = run.metrics
    return {
        "run": str(run.path),
        "report": None if report is None else str(report),
        "task": found["task"],
        "metrics": {part: found[part] for part in PARTS if part in found},
        **{key: found[key] for key in ("epochs", "steps", "seconds", "best_epoch", "stopped")},
        **{key: found[key] for key in ("constraints", "search", "distilled", "refit") if key in found},
        "seed": run.environment.get("seed"),
        "data": {**run.environment.get("data", {}), "fingerprint": run.schema.fingerprint},
        "recipe": {section: dict(values) for section, values in run.recipe.items()},
    }


def written_report(run: Run, show: Console) -> Path | None:
    """Write the report; an error here must not hide that training succeeded."""
    try:
        return run.report()
    except Exception as error:
        show.print(f"The report could not be written ({type(error).__name__}: {error}).", soft_wrap=True)
        show.print(f"Everything else is saved; try again with: descend report {run.path}", soft_wrap=True)
        return None
