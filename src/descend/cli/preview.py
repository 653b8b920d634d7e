"""The output before training: the columns, the task with its reason, the parts, and the automatic choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from descend.report.formatting import TASKS, TIMES, listing

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from descend.data.schema import Schema
    from descend.runs.plan import Plan

__all__ = ["chosen", "plain_table", "preview"]

MANY = 16
"""The number of data columns that are listed individually; more are summarized by kind."""

DETAILS = frozenset(
    {
        "target_scale",
        "task",
        "output",
        "output_gain",
        "image_size",
        "monitor",
        "min_improvement",
        "ensemble_selection",
        "searched_keys",
        "preset",
        "number_embedding",
        "members",
        "ensemble",
        "ensemble_shrinkage",
    }
)
"""Keys that the summary of the recipe leaves out; those of the preset have a line of their own."""

PART_NAMES = {"train": "training", "validation": "validation", "test": "test"}


def preview(planned: Plan, console: Console, *, new: bool = True) -> None:
    """Print what will be trained; ``new`` is false for a run that continues."""
    schema = planned.prepared.schema
    console.print(f"{planned.source.name}: {_size(planned)}", style="bold")
    if schema.columns:
        console.print(_columns(schema.table()))
    column_notes = {f"column {column.name!r}: {column.note}" for column in schema.columns}
    for note in planned.prepared.notes:
        if note not in column_notes:
            console.print(f"Note: {note}")
    console.print(f"Task: {_task(schema)}" + (f" ({schema.why})." if schema.why else "."))
    rows = ", ".join(f"{schema.rows.get(part, 0):,} {PART_NAMES[part]}" for part in PART_NAMES)
    console.print(f"Rows: {rows}.")
    if new and (advice := _test_rows(planned)):
        console.print(advice)
    if new and (networks := _networks(planned)):
        console.print(networks)
    choices = chosen(planned)
    if choices:
        console.print(f"Chosen for these data: {choices}.")
        console.print("(Reasons: descend recipe --explain. Change a choice: --set section.key=value)")


def _test_rows(planned: Plan) -> str:
    """How to train on the test rows too, where they were split off at random without a request."""
    rows, total = planned.prepared.schema.rows.get("test", 0), len(planned.source)
    from descend.data.settings import DataSettings

    if planned.recipe.stop.get("refit"):
        from descend.many.refit import rows_used

        return (
            f"(Once the scores are known, the network is trained again on all {rows_used(planned):,} rows: stop.refit. "
            "The network that results has no held-out score of its own.)"
        )
    if not rows or planned.source.split is not None or planned.recipe.data["test"] != DataSettings.test:
        return ""
    return (
        f"({100 * rows / total:.0f} % of the rows are kept for the test. If you have test data of your own: --test DATA, "
        "or --set data.test=0 to train on all rows. --refit trains on all rows once the score on these is known)"
    )


def _networks(planned: Plan) -> str:
    """Which preset was chosen, why, and how to choose the other one; empty where it was specified or has no alternative."""
    why, model = planned.resolved.reasons.get("model.preset"), planned.recipe.model
    if model["preset"] == "best":
        return (
            f"Model: a search for networks and their ensemble of up to {model['ensemble']}, for {model['minutes']:g} minutes "
            "(preset best). Ctrl-C ends it with the best so far"
        )
    if (
        why is None
        or not planned.prepared.schema.rows.get("validation")
        or len(planned.prepared.schema.input_shape) != 1
    ):
        return ""
    if model["preset"] == "good":
        return (
            f"Model: an ensemble of up to {len(model['members'])} different networks (preset good), since {why}. "
            "One network, faster: --preset quick"
        )
    return f"Model: one network (preset quick), since {why}. An ensemble of different ones: --preset good"


def _size(planned: Plan) -> str:
    schema, rows = planned.prepared.schema, f"{len(planned.source):,} rows"
    if schema.kind == "table":
        return f"{rows}, {len(schema.columns):,} columns"
    what = "images" if schema.kind == "images" else "inputs"
    return f"{rows}, {what} of {TIMES.join(str(side) for side in schema.input_shape)}"


def _task(schema: Schema) -> str:
    name = TASKS.get(schema.task, schema.task)
    targets = listing(schema.target_names, 8)
    text = f"{name} of {targets}" if schema.named and targets else name
    if schema.classes and schema.task != "multi_label":
        text += f", {len(schema.classes)} classes: {listing([str(label) for label in schema.labels], 10)}"
    return text


def _columns(columns: Sequence[Mapping[str, str]]) -> Table:
    table = plain_table("column", "kind", "values", "missing", "note")
    shown = columns if len(columns) <= MANY else [row for row in columns if row["note"]][:MANY]
    for row in shown:
        table.add_row(row["name"], row["kind"], row["values"], row["missing"], row["note"])
    rest = [row for row in columns if row not in shown]
    for kind in dict.fromkeys(row["kind"] for row in rest):
        same_kind = [row for row in rest if row["kind"] == kind]
        missing = sum(int(row["missing"] or 0) for row in same_kind)
        names = listing([row["name"] for row in same_kind], 3)
        count = f"{len(same_kind):,} {'more ' if shown else ''}column{'s' if len(same_kind) > 1 else ''}"
        table.add_row(names, kind, count, str(missing) if missing else "", "")
    return table


def plain_table(*headings: str, right: Sequence[str] = ()) -> Table:
    """Return a table without rules."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for heading in headings:
        table.add_column(heading, justify="right" if heading in right else "left", overflow="fold")
    return table


def chosen(planned: Plan) -> str:
    """Summarize the values that were chosen automatically."""
    parts: list[str] = []
    for section, values in planned.recipe.items():
        automatic = {key for key in values if f"{section}.{key}" in planned.resolved.reasons}
        keys = [key for key in values if key in automatic - DETAILS]
        words = [str(values["name"])] if "name" in keys else []
        words += [f"{key.replace('_', ' ')} {_value(values[key])}" for key in keys if key != "name"]
        named = "name" in keys or section in ("model", "loss", "init", "optimizer", "schedule")
        if words:
            parts.append((f"{section} " if named else "") + ", ".join(words))
    return "; ".join(parts)


def _value(value: object) -> str:
    if isinstance(value, tuple) and value and all(isinstance(item, Mapping) for item in value):
        return f"{len(value)} different networks"
    if isinstance(value, list | tuple):
        return TIMES.join(str(item) for item in value) if value else "none"
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value)
