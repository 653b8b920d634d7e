"""``descend report``."""

from __future__ import annotations

import typer

from descend.cli.options import RunFolder
from descend.errors import RunError

__all__ = ["EXAMPLES", "report"]

EXAMPLES = "\b\nExample:\n  descend report runs/houses"


def report(run: RunFolder) -> None:
    """Write the report of a run again, as one HTML file in its folder, and print its path."""
    from descend.cli.output import screen
    from descend.report import write
    from descend.report.run_files import is_run
    from descend.runs.folder import is_finished, is_started, why_no_run, why_unfinished

    if not is_run(run):
        raise RunError(why_no_run(run))
    typer.echo(write(run))
    if is_started(run) and not is_finished(run):
        screen().print(f"Note: {why_unfinished(run)}", soft_wrap=True)
