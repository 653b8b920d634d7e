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

    from descend.recipe.catalogue import Entry
    from descend.recipe.parameters import Parameter

__all__ = ["EXAMPLES", "methods"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend methods          all of them\n"
    "  descend methods adam     its formula, parameters and source\n"
    "  descend methods D6       the methods of one row of the lecture's list\n"
    "  descend methods --json"
)

SHAPES = {
    ("model", "activation"): "(n, ...) → (n, ...), every number by itself",
    ("model", "norm"): "(n, C) → (n, C), images (n, C, H, W) → (n, C, H, W)",
    ("init", "name"): "fills a weight (d_out, d_in), or (d_out, d_in, height, width), in place",
    (
        "optimizer",
        "name",
    ): "parameters of any shapes, in place; each entry by itself unless the formula says otherwise",
    ("schedule", "name"): "the number of the step → the factor of the rate",
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
"""Shapes of a family, for methods whose docstring says nothing of its own."""

LINE = 200
"""Width of the table in a file or a pipe, so that each method is one line to search through."""


def methods(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A method's name, such as adam, or a row of the lecture's list, such as D6.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods that a recipe may name, or explain one of them."""
    with answering(as_json) as answer:
        from descend.recipe.catalogue import entries

        found = list(entries())
        if name is not None:
            found = _named(name, found)
        if not as_json and name is None:
            _table(found, people(width=LINE))
        elif not as_json:
            text = "\n\n".join(_explained(entry) for entry in found) + "\n"
            stream = LastingStream(sys.stdout)
            stream.write(text)
            stream.flush()
        answer({"methods": [_facts(entry) for entry in found]})


def _named(name: str, known: Sequence[Entry]) -> list[Entry]:
    word = name.strip().lower()
    found = [entry for entry in known if entry.name.lower() == word]
    found = found or [entry for entry in known if word in _rows(entry)]
    if not found:
        names = {entry.name for entry in known} | {row.upper() for entry in known for row in _rows(entry)}
        near = did_you_mean(name, names)
        hint = near if near.startswith("did") else "descend methods lists them"
        raise UserError(f"no method and no row of the list is called '{name}'; {hint}")
    return found


def _rows(entry: Entry) -> list[str]:
    return [row.strip().lower() for row in entry.card.row.split(",") if row.strip()]


def _choice(entry: Entry) -> str:
    """What the entry is a choice for; keys that are methods themselves are one table for their section."""
    return entry.section if entry.is_key else f"{entry.section}.{entry.key}"


def _table(found: Sequence[Entry], console: Console) -> None:
    from descend.cli.docstrings import plain
    from descend.cli.preview import plain_table
    from descend.recipe.sections import SECTIONS

    order = list(SECTIONS)
    for key in sorted(dict.fromkeys(map(_choice, found)), key=lambda one: order.index(one.partition(".")[0])):
        section, _, inner = key.partition(".")
        about = f": {SECTIONS[section].about}" if inner in ("name", "") else ""
        console.print(f"{key}{about}", style="bold")
        table = plain_table("name", "row", "what it is")
        for entry in found:
            if _choice(entry) == key:
                table.add_row(entry.name, entry.card.row, plain(entry.card.summary))
        console.print(table)
        console.print()


def _parameters(entry: Entry) -> dict[str, Parameter]:
    """What a recipe may set; what the builder supplies has no default."""
    from descend.recipe.catalogue import PENALTIES
    from descend.recipe.parameters import MISSING, of_constructor
    from descend.recipe.sections import SECTIONS

    if entry.section == "regularize" and entry.key in PENALTIES:  # its settings are keys beside it
        return {}
    found = of_constructor(entry.constructor, SECTIONS[entry.section].context) or {}
    return {key: value for key, value in found.items() if value.default is not MISSING}


def _facts(entry: Entry) -> dict[str, Any]:
    from descend.cli.docstrings import about_arguments, plain, shapes_of
    from descend.recipe.parameters import describe
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
        "lecture": card.lecture,
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
    from descend.cli.docstrings import about_method

    facts = _facts(entry)
    row = f"  (row {entry.card.row} of the lecture's list)" if entry.card.row else ""
    lines = [f"{entry.name}{row}", "", about_method(entry.constructor), "", f"Use: {_use(entry, facts)}"]
    if facts["formula"]:
        lines += ["", _wrapped(f"Formula: {facts['formula']}")]
    # What the docstring says of shapes is among its words already.
    if facts["shapes"] and "Shapes:" not in lines[2]:
        lines += ["", _wrapped(f"Shapes: {facts['shapes']}")]
    if facts["parameters"]:
        lines += ["", f"Parameters, with the defaults of {facts['code']}:"]
    for parameter in facts["parameters"]:
        words = f"  {_line(parameter)}  ({parameter['type']}) {parameter['about']}"
        lines.append(_wrapped(words.rstrip(), "      "))
    if facts["lecture"]:
        lines += ["", _wrapped(f"In the lecture: {facts['lecture']}")]
    if facts["note"]:
        lines += ["", _wrapped(f"Note: {facts['note']}")]
    if facts["reference"]:
        lines += ["", _wrapped(f"Source: {facts['reference']}")]
    return "\n".join(lines)


def _line(parameter: Mapping[str, Any]) -> str:
    from descend.recipe.toml import dump

    return dump({"x": {parameter["name"]: parameter["default"]}}, {}).splitlines()[1]


def _use(entry: Entry, facts: Mapping[str, Any]) -> str:
    """How a recipe chooses the method, as it is typed."""
    from descend.constraints import CONDITIONS

    path = f"{entry.section}.{entry.key}"
    first = facts["parameters"][0] if facts["parameters"] else None
    if entry.is_key and first is None:
        return f"--set {path}=0.01"
    if entry.is_key and first is not None:
        key, _, value = _line(first).partition(" = ")
        if entry.key in CONDITIONS:
            function = "package.module:function"
            return f"--set {path}={function}, or --set '{path}={{function=\"{function}\", {key}={value}}}'"
        return f"--set {path}='*', or --set '{path}={{pattern=\"*\", {key}={value}}}'"
    if first is None or first["default"] is None:
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
