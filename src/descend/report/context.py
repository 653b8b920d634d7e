"""The sections on the inputs of a run: data, recipe, model, environment, command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from descend.data.quantities import shown_duration, shown_quantities
from descend.report.formatting import ENVIRONMENT_LABELS, TASKS, TIMES, amount, count, listing
from descend.report.highlight import toml
from descend.report.markup import Child, Html, element
from descend.report.parts import code, facts, fold, section, table
from descend.report.run_files import PARTS, USED, RunFiles, items, mapping, number, text

__all__ = ["data_section", "environment_section", "model_section", "recipe_section", "reproduce_section"]

_CATEGORIES_SHOWN = 6


def data_section(run: RunFiles) -> Html:
    """Return the section on the data: source, parts, fingerprint, target, columns."""
    schema = run.schema
    data = mapping(run.environment.get("data"))
    columns = [mapping(column) for column in items(schema.get("columns"))]
    shape = TIMES.join(count(side) for side in items(schema.get("input_shape")))
    rows = number(data.get("rows"))
    why = text(schema.get("why"))
    pairs: list[tuple[str, Child]] = [
        ("Source", text(data.get("reference") or schema.get("reference") or run.name)),
        ("Rows", count(rows) if rows is not None else None),
        ("Task", TASKS.get(run.task, run.task) + (f" ({why})" if why else "")),
        ("Target", _target(run)),
        ("Input", f"{text(schema.get('kind'))}, {shape}" if shape and not columns else None),
        ("Fingerprint", element("code", text(schema["fingerprint"])) if schema.get("fingerprint") else None),
    ]
    return section("data", "Data", facts(pairs), _parts(run), _columns(columns, rows))


def _target(run: RunFiles) -> str:
    names = listing(run.targets, 6)
    if not run.classes:
        return names
    return f"{names + ', ' if names else ''}{count(len(run.classes))} classes: {listing(run.classes, 12)}"


def _parts(run: RunFiles) -> Child:
    """Rows per part, as a bar with its legend."""
    rows = {part: run.rows(part) or 0.0 for part in PARTS}
    total = sum(rows.values())
    if not total:
        return None
    bar = [
        element("span", class_=f"part {part}", style=f"flex-grow:{value:.0f}")
        for part, value in rows.items()
        if value
    ]
    legend = [
        element(
            "li",
            element("span", class_=f"swatch {part}"),
            f"{'training' if part == 'train' else part} ",
            element("strong", count(value)),
            f" ({100 * value / total:.0f} %)" if value else None,
        )
        for part, value in rows.items()
    ]
    return [
        element("h3", "Rows per part"),
        element("div", bar, class_="bar", aria_hidden="true"),
        element("ul", legend, class_="legend"),
    ]


def _columns(columns: list[Mapping[str, Any]], rows: float | None) -> Child:
    if not columns:
        return None
    cells = [
        [
            text(column.get("name")),
            text(column.get("kind")),
            _values(column),
            _scaling(column),
            _missing(number(column.get("missing")), rows),
            _fill(column),
            text(column.get("note")),
        ]
        for column in columns
    ]
    head = ["column", "kind", "values", "mean ± scale", "missing", "imputation", "notes"]
    if not any(row[-1] for row in cells):
        head, cells = head[:-1], [row[:-1] for row in cells]
    title = f"{count(len(columns))} column{'s' if len(columns) != 1 else ''}"
    return [element("h3", title), table("Columns of the data", head, cells, numeric=[3, 4], tall=True)]


def _values(column: Mapping[str, Any]) -> Child:
    """The categories, collapsed after the first few; or the range of numbers or dates."""
    names = [text(name) for name in items(column.get("categories"))]
    if names:
        pooled = " (the last one contains all others)" if column.get("pooled") is True else ""
        shown = ", ".join(names[:_CATEGORIES_SHOWN])
        if len(names) <= _CATEGORIES_SHOWN:
            return shown + pooled
        rest = ", ".join(names[_CATEGORIES_SHOWN:])
        return fold(f"{count(len(names))} categories: {shown}, …", rest + pooled)
    length = number(mapping(column.get("text")).get("length"))
    if length is not None:
        return f"up to {count(length)} n-grams"
    low, high = number(column.get("low")), number(column.get("high"))
    if low is None or high is None:
        return None
    parts = ", ".join(text(part).replace("_", " ") for part in items(column.get("parts")))
    limits = " to ".join(shown_quantities(text(column.get("kind")), [low, high], 4))
    unit = text(column.get("unit"))
    return limits + (f" {unit}" if unit else "") + (f" ({parts})" if parts else "")


def _scaling(column: Mapping[str, Any]) -> str:
    mean, scale = number(column.get("mean")), number(column.get("scale"))
    kind, parts = text(column.get("kind")), items(column.get("parts"))
    if kind not in ("numeric", "date", "time", "duration") or mean is None or scale is None:
        return ""
    if parts and "number" not in map(text, parts):
        return ""
    width = amount(scale) if kind == "numeric" else shown_duration(scale)
    return f"{_quantity(column, mean)} ± {width}"


def _quantity(column: Mapping[str, Any], value: float) -> str:
    """A mean or a replacement, precise enough for the scale of its column."""
    spread = number(column.get("scale")) or 0.0
    return shown_quantities(text(column.get("kind")), [value], 4, spread)[0]


def _missing(missing: float | None, rows: float | None) -> str:
    if not missing:
        return "0" if missing == 0 else amount(None)
    return count(missing) + (f" ({100 * missing / rows:.0f} %)" if rows else "")


def _fill(column: Mapping[str, Any]) -> str:
    """The replacement of a missing value."""
    kind, fill = text(column.get("kind")), number(column.get("fill"))
    if kind not in USED:
        return ""
    replacement = (
        {"categorical": "no category", "text": "no n-grams"}[kind]
        if kind in ("categorical", "text")
        else _quantity(column, fill)
        if fill is not None
        else ""
    )
    return replacement + (", with an indicator input" if column.get("indicator") is True else "")


def recipe_section(run: RunFiles) -> Html:
    """Return the section with the resolved recipe, verbatim."""
    if not run.recipe:
        return Html("")
    explanation = (
        "All settings of this run (recipe.toml in the run folder). A comment gives the reason for each automatic "
        "setting."
    )
    return section(
        "recipe", "Recipe", element("p", explanation), code("recipe-text", toml(run.recipe), "the recipe")
    )


def model_section(run: RunFiles) -> Html:
    """Return the section on the network: number of parameters and modules."""
    model = mapping(run.environment.get("model"))
    summary, size = text(model.get("summary")), number(model.get("parameters"))
    parameters = element("p", f"{count(size)} trainable parameters.") if size is not None else None
    modules = code("model-text", summary, "the model's modules") if summary else None
    return section("model", "Model", parameters, modules)


def environment_section(run: RunFiles) -> Html:
    """Return the section on versions, machine, device and threads."""
    shown_elsewhere = {"command", "data", "model"}
    pairs = [
        (ENVIRONMENT_LABELS.get(name, name.replace("_", " ")), _flat(value))
        for name, value in run.environment.items()
        if name not in shown_elsewhere
    ]
    return section("environment", "Environment", facts(pairs))


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{text(name)} {_flat(inner)}" for name, inner in value.items())
    return ", ".join(map(text, items(value))) if items(value) else text(value)


def reproduce_section(run: RunFiles) -> Html:
    """Return the section with the command that repeats the run."""
    command = text(run.environment.get("command"))
    if not command:
        return Html("")
    note = (
        "The numbers are reproduced exactly with the same data (see the fingerprint above), versions, device and "
        "number of threads."
    )
    return section(
        "reproduce",
        "Reproduce",
        code("command-text", command, "the command", wrap=True),
        element("p", note, class_="note"),
    )
