"""``descend recipe``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from descend.cli.options import AllowImports, Assignments, Device, Json, OptionalData, RecipeFile, Target
from descend.cli.output import LastingStream, answering
from descend.errors import UserError

__all__ = ["EXAMPLES", "recipe"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend recipe                                  every key, its default and its type\n"
    "  descend recipe --explain                        the same, with what each key does\n"
    "  descend recipe houses.csv --target price > houses.toml\n"
    "  descend recipe --explain digits --set optimizer.name=sgd\n"
    "  descend recipe --recipe houses.toml             check a recipe\n"
    "  descend recipe --schema > recipe.schema.json    JSON Schema, for completion in an editor"
)


def recipe(
    data: OptionalData = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="With DATA: the reason for each value chosen for it. Without: a description of each key.",
        ),
    ] = False,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Print the JSON Schema of recipes, for completion in an editor."),
    ] = False,
    target: Target = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
) -> None:
    """Print a recipe, the complete settings of a training, as TOML.

    With DATA: the complete recipe that train would use. Without: every key with its default. With --recipe or --set but
    without DATA, the specified settings are checked and printed.
    """
    with answering(as_json) as answer:
        if schema:
            if data is not None or recipe is not None or assignments or target is not None or explain:
                raise UserError(
                    "--schema describes every recipe; use it without DATA, --recipe, --set, --target or --explain"
                )
            from descend.recipe.schema import json_schema

            document = json_schema()
            _write(json.dumps(document, indent=2, ensure_ascii=False))
            answer(document)
            return
        from descend.recipe import Recipe

        specified = Recipe() if recipe is None else Recipe.load(Path(recipe), allow_imports=allow_imports)
        if assignments:
            specified = specified.with_assignments(assignments)
        reasons: dict[str, str] = {}
        if data is not None:
            from descend.runs.plan import plan_run

            resolved = plan_run(
                data, specified, target=target, device=device, allow_imports=allow_imports
            ).resolved
            shown, reasons = resolved.recipe, dict(resolved.reasons)
            text = resolved.to_toml() if explain else shown.to_toml()
        elif recipe is not None or assignments:
            shown, text = specified, specified.to_toml()
        else:
            from descend.cli.default import default_recipe

            shown, text = specified, default_recipe(explain=explain)
        _write(text)
        answer({"recipe": {section: dict(values) for section, values in shown.items()}, "reasons": reasons})


def _write(text: str) -> None:
    stream = LastingStream(sys.stdout)
    stream.write(text if text.endswith("\n") else text + "\n")
    stream.flush()
