"""``descend finish``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from descend.cli.options import AllowImports, Device, Json, RunFolder
from descend.cli.output import answering, people, screen

__all__ = ["EXAMPLES", "finish"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend finish runs/houses\n"
    "  descend finish runs/houses --data moved/houses.csv\n"
    "  descend train --resume --out runs/houses            resume it instead"
)

_WHERE = "of the run, if moved.  [default: the path recorded in the run folder]"


def finish(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help=f"The data {_WHERE}", show_default=False),
    ] = None,
    validation: Annotated[
        str | None, typer.Option(metavar="DATA", help=f"The validation data {_WHERE}", show_default=False)
    ] = None,
    test: Annotated[
        str | None, typer.Option(metavar="DATA", help=f"The test data {_WHERE}", show_default=False)
    ] = None,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the run folder and errors.")] = False,
) -> None:
    """Turn a stopped run into a result: evaluate its best weights so far, and save them with the metrics and a report.

    The run can then be used like any other (predict, evaluate, export, report); its status is "stopped". It can still be
    continued with "descend train --resume".
    """
    with answering(as_json) as answer:
        console, show = people(quiet=quiet), screen(quiet=quiet)
        from descend.runs.folder import is_finished

        was_finished: bool = is_finished(Path(run))
        with show.status(f"Evaluating {run}"):
            from descend.api import finish as finish_run
            from descend.cli.summary import answer_of, summary, written_report

            finished = finish_run(
                run,
                data,
                validation=validation,
                test=test,
                device=device,
                allow_imports=allow_imports,
            )
        if was_finished:
            console.print(f"The run in {run} is already finished.", soft_wrap=True)
        report = written_report(finished, show)
        summary(finished, report, console)
        if quiet and not as_json:
            people().print(str(finished.path), soft_wrap=True)
        answer(answer_of(finished, report))
