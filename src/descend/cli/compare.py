"""``descend compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descend.cli.folders import new_folder, remove_if_empty
from descend.cli.options import (
    AllowImports,
    Assignments,
    Data,
    Device,
    Json,
    RecipeFile,
    Seed,
    Target,
    output_path,
)
from descend.cli.output import answering, people, screen
from descend.cli.train import requested_recipe
from descend.errors import DivergedError, UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from descend.experiments.comparison import Comparison, Outcome
    from descend.runs.run import Run

__all__ = ["EXAMPLES", "compare"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend compare digits --vary optimizer.name=sgd,adam,rmsprop\n"
    "  descend compare houses.csv --target price --vary model.activation=relu,tanh --vary model.dropout=0,0.2\n"
    "  descend compare digits --vary model.hidden=[64],[64,64] --seeds 10 --set stop.max_epochs=30\n"
    "  descend compare digits --vary optimizer.lr=0.001,0.01,0.1 --set optimizer.name=sgd\n"
    "  descend compare digits --vary 'optimizer={name=\"sgd\",momentum=0.9},adam' --tune 12"
)


def compare(
    data: Data,
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SECTION.KEY=A,B,C",
            help="Values of one key to compare; repeatable, and then every combination is a variant. Values are "
            "TOML; a bare word is a string.",
            show_default=False,
        ),
    ] = None,
    target: Target = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    seeds: Annotated[int, typer.Option(metavar="N", help="The number of final runs of each variant.")] = 5,
    tune: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The number of learning rates tried for each variant; 0 uses the recipe's own.  [default: 8, or 0 if the "
            "learning rate is specified or varied]",
            show_default=False,
        ),
    ] = None,
    rates: Annotated[
        str, typer.Option(metavar="LOW,HIGH", help="The range of learning rates to try.")
    ] = "1e-4,1",
    goal: Annotated[
        float | None,
        typer.Option(
            metavar="VALUE",
            help="The validation score for the time to target.  [default: the score of the first variant]",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The metric to compare by: loss or a metric of the task.  [default: accuracy or r2]",
            show_default=False,
        ),
    ] = None,
    no_tests: Annotated[
        bool,
        typer.Option("--no-tests", help="Do not test differences for significance; then one seed is enough."),
    ] = False,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder of the comparison.  [default: runs/compare-NAME-DATE-TIME]",
            show_default=False,
            parser=output_path,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the interrupted comparison in --out; repeat all other options as they were.",
        ),
    ] = False,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only the folder of the comparison and errors.")
    ] = False,
) -> None:
    """Compare design choices of training on DATA under equal conditions, and write a report.

    The learning rate of every variant is tuned with the same number of runs; then each variant is trained with new
    seeds. The report contains scores with confidence intervals, time to a common target, sensitivity to the learning
    rate, and a significance test of every difference.
    """
    with answering(as_json) as answer:
        show = screen(quiet=quiet)
        bounds = _bounds(rates)
        with show.status(f"Reading {data}"):
            from descend.experiments.comparison import compare as compared
            from descend.experiments.comparison.variants import parse_variations

            base = requested_recipe(recipe, assignments or [], allow_imports)
            varied = parse_variations(vary or [])
        if resume and out is None:
            raise UserError("--resume requires the folder of the comparison: --out FOLDER")
        folder = out or new_folder(data, "compare-")
        bar = _Bar(show)
        try:
            found = compared(
                data,
                varied,
                recipe=base,
                seeds=seeds,
                tune=tune,
                rates=bounds,
                goal=goal,
                metric=metric,
                tests=not no_tests,
                seed=seed or 0,
                target=target,
                out=folder,
                resume=resume,
                device=device,
                watchers=[bar],
                allow_imports=allow_imports,
            )
        finally:
            bar.close()
            remove_if_empty(folder)
        _show(found, people(quiet=quiet))
        if found.failed:
            raise DivergedError(_advice(found))
        if quiet and not as_json:
            people().print(str(found.path), soft_wrap=True)
        answer(found.to_dict() | {"report": str(folder / "report.html")})


def _bounds(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--rates: expected two numbers such as 1e-4,1, got '{text}'") from None
    return low, high


def _show(found: Comparison, console: Console) -> None:
    from descend.experiments.comparison.formatting import p_value, score_text
    from descend.experiments.comparison.summary import summarize
    from descend.report.formatting import metric

    how = found.conditions
    console.print(_results(found))
    if found.target is not None:
        console.print(
            f"Target: a validation {metric(how.metric)} of {score_text(how.metric, found.target)}; medians over "
            f"{len(how.seeds)} seeds."
        )
    if found.engine != "loop":
        console.print(
            f"Runs were trained together ({found.engine}), so times are those of the group; compare steps and gradients."
        )
    if found.tests:
        from descend.cli.preview import plain_table

        headings = ["mean", "p", "p, Holm"]
        table = plain_table("difference", *headings, right=headings)
        for test in sorted(found.tests, key=lambda test: (test.p is None, test.p or 0.0))[:12]:
            table.add_row(
                f"{test.first} − {test.second}",
                _plain(score_text(how.metric, test.difference)),
                p_value(test.p),
                p_value(test.adjusted),
            )
        console.print()
        console.print(table)
    console.print()
    console.print(summarize(found).replace("\N{NO-BREAK SPACE}", " "))
    console.print(f"Report  {found.path}/report.html", soft_wrap=True)


def _results(found: Comparison) -> Table:
    from descend.cli.preview import plain_table
    from descend.experiments.comparison.formatting import (
        good_rates_text,
        interval_text,
        lr_text,
        missing_cost_text,
        score_text,
    )
    from descend.report.formatting import count, duration, metric

    how = found.conditions
    score = f"{how.part} {metric(how.metric)}"
    headings = ["learning rate", score, f"{100 * how.level:g} % interval", "to target", "steps", "gradients"]
    headings += ["good rates"] if how.rates else []
    table = plain_table("variant", *headings, right=headings)

    for column in table.columns[1:]:
        column.no_wrap = True

    def row(outcome: Outcome) -> list[str]:
        reach = outcome.to_target
        cells = [lr_text(outcome), score_text(how.metric, outcome.mean), interval_text(outcome)]
        cells += (
            [missing_cost_text(outcome), "", ""]
            if reach is None
            else [duration(reach.seconds), count(reach.steps), count(reach.gradients)]
        )
        return [_plain(cell) for cell in cells + ([good_rates_text(outcome)] if how.rates else [])]

    for outcome in found.outcomes:
        table.add_row(outcome.name, *row(outcome))
    return table


def _plain(text: str) -> str:
    return text.replace("\N{NO-BREAK SPACE}", " ")


def _advice(found: Comparison) -> str:
    runs = [run for outcome in found.outcomes for run in (*outcome.tuning, *outcome.runs)]
    message = next((run.message for run in runs if run.message), "")
    tuned = (
        "lower learning rates: --rates 1e-6,1e-2"
        if found.conditions.rates
        else "lower learning rates, or --tune 8"
    )
    return f"every run of every variant diverged; try {tuned}. The first message:\n{message}"


class _Bar:
    """A progress bar over the runs of each phase."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=console.quiet,
        )
        self._task: Any = None

    def phase(self, name: str, runs: int) -> None:
        """Start a bar."""
        if self._task is None:
            self._bar.start()
        self._task = self._bar.add_task(name[:1].upper() + name[1:], total=runs)

    def epoch_ended(self, number: int, record: dict[str, Any]) -> None:
        """Do nothing: the bar counts runs."""

    def finished(self, number: int, run: Run) -> None:
        """Advance by one run."""
        self._bar.advance(self._task)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()
