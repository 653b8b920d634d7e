"""``descend recipe``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from descend.cli.options import AllowImports, Assignments, Device, Json, OptionalData, RecipeFile, Target
from descend.cli.output import LastingStream, answering

__all__ = ["EXAMPLES", "recipe"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend recipe                                  every key, its default, and what it may be\n"
    "  descend recipe --explain                        the same, with what each key does\n"
    "  descend recipe houses.csv --target price > houses.toml\n"
    "  descend recipe --explain digits --set optimizer.name=sgd\n"
    "  descend recipe --recipe houses.toml             check a recipe"
)


def recipe(
    data: OptionalData = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="With DATA: the reason for each value chosen for them. Without: what each key does.",
        ),
    ] = False,
    target: Target = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
) -> None:
    """Print a recipe: all that decides a training, as TOML.

    With DATA: the complete recipe that train would follow for them. Without: every key with its default. With
    --recipe or --set but without DATA, what they say is checked and printed.
    """
    with answering(as_json) as answer:
        from descend.recipe import Recipe

        asked = Recipe() if recipe is None else Recipe.load(Path(recipe), allow_imports=allow_imports)
        if assignments:
            asked = asked.with_assignments(assignments)
        reasons: dict[str, str] = {}
        if data is not None:
            from descend.runs.plan import plan

            resolved = plan(data, asked, target=target, device=device, allow_imports=allow_imports).resolved
            found, reasons = resolved.recipe, dict(resolved.reasons)
            text = resolved.to_toml() if explain else found.to_toml()
        elif recipe is not None or assignments:
            found, text = asked, asked.to_toml()
        else:
            from descend.cli.default import default_recipe

            found, text = asked, default_recipe(explain=explain)
        stream = LastingStream(sys.stdout)
        stream.write(text if text.endswith("\n") else text + "\n")
        stream.flush()
        answer({"recipe": {section: dict(values) for section, values in found.items()}, "reasons": reasons})
