"""The report of a run: its header and the order of its sections."""

from __future__ import annotations

from descend.report import context, results
from descend.report.document import document
from descend.report.formatting import TASKS, count, duration, metric, score
from descend.report.markup import Child, Html, element, join
from descend.report.parts import facts, navigation
from descend.report.run_files import RunFiles, mapping, number, text
from descend.report.summary import summarize

__all__ = ["render"]

_PART_NAMES = {"test": "Test", "validation": "Validation", "train": "Training"}

_SECTIONS = {
    "learning": "Learning curves",
    "results": "Results",
    "mistakes": "Mistakes",
    "data": "Data",
    "recipe": "Recipe",
    "reproduce": "Reproduce",
    "model": "Model",
    "environment": "Environment",
}


def render(run: RunFiles) -> str:
    """Return the report of a run as one HTML document."""
    body = join(
        [
            results.learning_section(run),
            results.results_section(run),
            results.mistakes_section(run),
            context.data_section(run),
            context.recipe_section(run),
            context.reproduce_section(run),
            context.model_section(run),
            context.environment_section(run),
        ]
    )
    return document(
        run.name,
        navigation=navigation(_SECTIONS, body),
        opening=_opening(run),
        body=body,
    )


def _opening(run: RunFiles) -> Html:
    """Title, warning, summary and the main numbers of the run."""
    task = TASKS.get(run.task, run.task.replace("_", " ")) or "training"
    return join(
        [
            element("p", task[:1].upper() + task[1:], class_="eyebrow"),
            element("h1", run.name, class_="long" if len(run.name) > 32 else None),
            _warning(run),
            element("p", summarize(run), class_="lead"),
            facts(_tiles(run), class_="tiles"),
        ]
    )


def _warning(run: RunFiles) -> Child:
    """The state of a run that did not finish, with its message."""
    if run.status == "finished":
        return None
    title = {
        "failed": "This run failed.",
        "interrupted": "This run was interrupted.",
        "stopped": "This run was stopped before its end. Its results are those of the best weights so far.",
        "unfinished": "This run has not finished.",
    }.get(run.status, f"Status: {run.status}.")
    advice = text(run.metrics.get("message") or run.metrics.get("error") or run.metrics.get("advice"))
    return element(
        "div", element("strong", title), element("p", advice) if advice else None, class_="warning"
    )


def _tiles(run: RunFiles) -> list[tuple[str, Child]]:
    scores: list[tuple[str, Child]] = [
        (f"{name} {metric(run.main_metric)}", score(run.main_metric, run.score(part)))
        for part, name in _PART_NAMES.items()
        if run.score(part) is not None
    ]
    epochs = number(run.metrics.get("epochs")) or len(run.history)
    best = f" (kept {run.best_epoch:,})" if run.best_epoch is not None else ""
    seconds, size = (
        number(run.metrics.get("seconds")),
        number(mapping(run.environment.get("model")).get("parameters")),
    )
    return [
        *scores[:2],
        ("Epochs", [count(epochs), element("small", best)] if epochs else None),
        ("Training time", duration(seconds) if seconds is not None else None),
        ("Parameters", count(size) if size is not None else None),
    ]
