"""``descend evaluate``."""

from __future__ import annotations

from typing import Annotated

import typer

from descend.cli.options import AllowImports, Json, NewData, ReadingAssignments, RunFolder, assigned
from descend.cli.output import answering, people, screen

__all__ = ["EXAMPLES", "evaluate"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend evaluate runs/houses sold_houses.csv\n"
    "  descend evaluate runs/houses sold_houses.csv --target paid --json"
)


def evaluate(
    run: RunFolder,
    data: NewData,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="The column with the true values.  [default: the target column of training]",
            show_default=False,
        ),
    ] = None,
    assignments: ReadingAssignments = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
) -> None:
    """Evaluate a trained network on DATA, which must contain the true values."""
    with answering(as_json) as answer:
        from descend.cli.summary import scores
        from descend.data.sources import read
        from descend.runs.predictions import reading_settings
        from descend.runs.run import load

        trained = load(run, allow_imports=allow_imports)
        settings = reading_settings(assigned(assignments))
        source = read(data, target=target, schema=trained.schema, settings=settings)
        for note in source.notes:
            screen().print(f"Note: {note}", soft_wrap=True, markup=False)
        metrics = trained.evaluate(source)
        people().print(scores({source.name: metrics}))
        answer(
            {
                "run": str(run),
                "data": data,
                "rows": len(source),
                "task": trained.schema.task,
                "metrics": metrics,
            }
        )
