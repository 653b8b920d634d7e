"""``descend methods``."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descend.cli.options import Json
from descend.cli.output import LastingStream, answering, people
from descend.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console

    from descend.param_types import Parameter
    from descend.recipe.catalogue import Entry

__all__ = ["EXAMPLES", "methods"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend methods          all methods\n"
    "  descend methods adam     its formula, parameters and source\n"
    "  descend methods D6       the methods of row D6 of the list of methods\n"
    "  descend methods --json"
)

SHAPES = {
    ("data", "categories"): "a category → its inputs",
    ("data", "target_scale"): "targets (n,) → learned targets (n,)",
    ("model", "activation"): "(n, ...) → (n, ...), elementwise",
    ("model", "norm"): "(n, C) → (n, C), images (n, C, H, W) → (n, C, H, W)",
    ("model", "calibration"): "logits (n, K) → logits (n, K)",
    ("model", "number_embedding"): "(n, d) → (n, d, e), for the d numbers of a row",
    ("model", "category_embedding"): "(n, L) → (n, e), for the one-hot inputs of each column of L categories",
    ("model", "ensemble_selection"): "raw outputs (n, K) of each network → the counts of those that are kept",
    ("init", "name"): "fills a weight (d_out, d_in), or (d_out, d_in, height, width), in place",
    (
        "optimizer",
        "name",
    ): "parameters of any shapes, in place; elementwise unless the formula says otherwise",
    ("optimizer", "sam"): "parameters of any shapes, in place",
    ("optimizer", "lookahead"): "parameters of any shapes, in place; elementwise",
    ("schedule", "name"): "the number of the step → the factor of the learning rate",
    (
        "regularize",
        "orthogonality",
    ): "weights (d_out, d_in), convolutions as (d_out, d_in height width) → a number",
    ("regularize", "weight_decay"): "weights of two or more dimensions, in place",
    ("regularize", "l2"): "weights of two or more dimensions → a number",
    ("regularize", "l1"): "weights of two or more dimensions → a number",
    ("regularize", "l1_prox"): "weights of two or more dimensions, in place",
    ("regularize", "jacobian"): "rows (n, ...) and their outputs (n, K) → a number",
    ("regularize", "gradient_penalty"): "rows (n, ...), their outputs (n, K) and targets → a number",
    ("constrain", "orthogonal"): "weights (d_out, d_in), convolutions as (d_out, d_in height width)",
    ("constrain", "norm_ball"): "weights (d_out, ...), each unit's or the whole, in place",
    ("constrain", "simplex"): "weights (d_out, ...), each unit's or the whole, in place",
    ("constrain", "binary"): "weights of any shape",
    ("constrain", "inequality"): "the network → a number or a vector (m,)",
    ("constrain", "equality"): "the network → a number or a vector (m,)",
    ("data", "scale"): "(n, d) → (n, d), with statistics of the training rows",
}
"""Shapes of a family, for methods whose docstring does not state its own."""

EXAMPLES_OF_KEYS = {"text_dimension": "32", "ensemble_selection": "greedy"}
"""Values of keys that are methods and have no settings; for all others a strength."""

LINE = 200
"""Width of the table in a file or a pipe, so that each method is on one line."""


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A method's name, such as adam, or a row of the list of methods, such as D6.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods that a recipe can name, or describe one of them."""
    with answering(as_json) as answer:
        from descend.recipe.catalogue import entries

        selected = list(entries())
        if name is not None:
            selected = _named(name, selected)
        if not as_json and name is None:
            _table(selected, people(width=LINE))
        elif not as_json:
            text = "\n\n".join(_explained(entry) for entry in selected) + "\n"
            stream = LastingStream(sys.stdout)
            stream.write(text)
            stream.flush()
        answer({"methods": [_facts(entry) for entry in selected]})


def _named(name: str, known: Sequence[Entry]) -> list[Entry]:
    word = name.strip().lower()
    matches = [entry for entry in known if entry.name.lower() == word]
    matches = matches or [entry for entry in known if word in _rows(entry)]
    if not matches:
        names = {entry.name for entry in known} | {row.upper() for entry in known for row in _rows(entry)}
        near = did_you_mean(name, names)
        hint = near if near.startswith("did") else "descend methods lists them"
        raise UserError(f"no such method or row '{name}'; {hint}")
    return matches


def _rows(entry: Entry) -> list[str]:
    return [row.strip().lower() for row in entry.card.row.split(",") if row.strip()]


def _choice(entry: Entry) -> str:
    """Return the key that chooses the entry; keys that are themselves methods form one table per section."""
    return entry.section if entry.is_key else f"{entry.section}.{entry.key}"


def _table(selected: Sequence[Entry], console: Console) -> None:
    from descend.cli.preview import plain_table
    from descend.recipe.docstrings import plain
    from descend.recipe.sections import SECTIONS

    order = list(SECTIONS)
    for key in sorted(
        dict.fromkeys(map(_choice, selected)), key=lambda one: order.index(one.partition(".")[0])
    ):
        section, _, inner = key.partition(".")
        about = f": {SECTIONS[section].about}" if inner in ("name", "") else ""
        console.print(f"{key}{about}", style="bold")
        table = plain_table("name", "row", "description")
        for entry in selected:
            if _choice(entry) == key:
                table.add_row(entry.name, entry.card.row, plain(entry.card.summary))
        console.print(table)
        console.print()


def _parameters(entry: Entry) -> dict[str, Parameter]:
    """Return the settings of an entry; parameters without a default are supplied by the builder."""
    from descend.param_types import MISSING, of_constructor
    from descend.recipe.catalogue import PENALTIES
    from descend.recipe.sections import SECTIONS, constructor_parameters

    # The settings of these are keys of the section.
    if entry.key in EXAMPLES_OF_KEYS or (entry.section == "regularize" and entry.key in PENALTIES):
        return {}
    section = SECTIONS[entry.section]
    if entry.key == "name":
        parameters = constructor_parameters(section, entry.name) or {}
    else:
        parameters = of_constructor(entry.constructor, section.context) or {}
    return {key: value for key, value in parameters.items() if value.default is not MISSING}


def _facts(entry: Entry) -> dict[str, Any]:
    from descend.param_types import describe
    from descend.recipe.docstrings import about_arguments, plain, shapes_of
    from descend.recipe.toml import path_of

    card, about = entry.card, about_arguments(entry.constructor)
    return {
        "name": entry.name,
        "section": entry.section,
        "key": entry.key,
        "row": card.row,
        "summary": plain(card.summary),
        "formula": card.formula,
        "shapes": shapes_of(entry.constructor) or SHAPES.get((entry.section, entry.key), ""),
        "reference": card.reference,
        "topic": card.topic,
        "note": card.note,
        "code": path_of(entry.constructor),
        "parameters": [
            {
                "name": key,
                "type": describe(parameter.annotation),
                "default": parameter.default,
                "about": about.get(key, ""),
            }
            for key, parameter in _parameters(entry).items()
        ],
    }


def _explained(entry: Entry) -> str:
    from descend.recipe.docstrings import about_method

    facts = _facts(entry)
    row = f"  (row {entry.card.row} of the list of methods)" if entry.card.row else ""
    lines = [f"{entry.name}{row}", "", about_method(entry.constructor), "", f"Use: {_use(entry, facts)}"]
    if facts["formula"]:
        lines += ["", _wrapped(f"Formula: {facts['formula']}")]
    # The docstring may state the shapes itself.
    if facts["shapes"] and "Shapes:" not in lines[2]:
        lines += ["", _wrapped(f"Shapes: {facts['shapes']}")]
    if facts["parameters"]:
        lines += ["", f"Parameters, with the defaults of {facts['code']}:"]
    for parameter in facts["parameters"]:
        text = f"  {_line(parameter)}  ({parameter['type']}) {parameter['about']}"
        lines.append(_wrapped(text.rstrip(), "      "))
    if facts["topic"]:
        lines += ["", _wrapped(f"Topic: {facts['topic']}")]
    if facts["note"]:
        lines += ["", _wrapped(f"Note: {facts['note']}")]
    if facts["reference"]:
        lines += ["", _wrapped(f"Source: {facts['reference']}")]
    return "\n".join(lines)


def _line(parameter: Mapping[str, Any]) -> str:
    from descend.recipe.toml import dump

    return dump({"x": {parameter["name"]: parameter["default"]}}, {}).splitlines()[1]


def _use(entry: Entry, facts: Mapping[str, Any]) -> str:
    """Return the command-line options that choose the method."""
    from descend.constraints import CONDITIONS
    from descend.optim import WRAPPERS

    path = f"{entry.section}.{entry.key}"
    first = facts["parameters"][0] if facts["parameters"] else None
    if entry.is_key and first is None:
        return f"--set {path}={EXAMPLES_OF_KEYS.get(entry.key, '0.01')}"
    if entry.key in WRAPPERS and first is not None:
        (name, value), (other, given) = (_line(each).split(" = ") for each in facts["parameters"])
        return f"--set {path}={value}, or --set '{path}={{{name}={value}, {other}={given}}}'"
    if entry.is_key and first is not None:
        key, _, value = _line(first).partition(" = ")
        if entry.key in CONDITIONS:
            function = "package.module:function"
            return f"--set {path}={function}, or --set '{path}={{function=\"{function}\", {key}={value}}}'"
        return f"--set {path}='*', or --set '{path}={{pattern=\"*\", {key}={value}}}'"
    if (
        first is None or first["default"] is None or entry.key == "output"
    ):  # an output is chosen by its name alone
        return f"--set {path}={entry.name}"
    key, _, value = _line(first).partition(" = ")
    if entry.key == "name":
        return f"--set {path}={entry.name} --set {entry.section}.{key}={value.replace(' ', '')}"
    return f"--set {path}={entry.name}, or --set '{path}={{name=\"{entry.name}\", {key}={value}}}'"


def _wrapped(text: str, indent: str = "") -> str:
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    return textwrap.fill(
        text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
