"""``descend search``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from descend.cli.options import (
    AllowImports,
    Assignments,
    Device,
    Json,
    OptionalData,
    RecipeFile,
    Seed,
    Target,
    output_path,
)
from descend.cli.output import already_saved, answering, people, screen
from descend.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from descend.experiments.search import SearchResult

__all__ = ["EXAMPLES", "search"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend search digits\n"
    "  descend search houses.csv --target price --space space.toml --trials 100 --method tpe\n"
    "  descend search digits --method halving --trials 81 --out runs/digits-search\n"
    "  descend search --resume --out runs/digits-search"
)

TRIALS, METHOD = 64, "random"


def search(
    data: OptionalData = None,
    target: Target = None,
    space: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The search space, in TOML: optimizer.lr = { log_uniform = [1e-4, 1e-1] }, ...  "
            "[default: learning rate, weight decay, batch size, network]",
            show_default=False,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The maximum number of configurations.  [default: 64]", show_default=False
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="random, quasi_random, grid, tpe (needs the extra 'search') or halving.  [default: random]",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The metric on the validation rows to compare by: loss, accuracy, r2, ...  "
            "[default: the main metric of the task]",
            show_default=False,
        ),
    ] = None,
    brackets: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The number of Hyperband brackets of halving; later ones stop fewer trials early.  [default: 1]",
            show_default=False,
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(metavar="NAME", help="How trials are trained together: auto, packed, vmap or loop."),
    ] = "auto",
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder of the search.  [default: runs/NAME-search-DATE-TIME]",
            show_default=False,
            parser=output_path,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the search in --out; finished trials are not repeated. Options that were specified "
            "at the start may be left out.",
        ),
    ] = False,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only the folder of the search and errors.")
    ] = False,
) -> None:
    """Search for the best recipe for DATA in a space of configurations.

    All trials share one split and one seed and are compared on the validation rows. The best configuration is trained
    again, evaluated once on the test rows, and saved as the run "best" in the folder.
    """
    with answering(as_json) as answer:
        console, show = people(quiet=quiet), screen(quiet=quiet)
        specified: dict[str, Any] = {
            "data": data,
            "target": target,
            "trials": trials,
            "method": method,
            "metric": metric,
            "brackets": brackets,
            "seed": seed,
            "space": space,
        }
        specified["recipe"] = _recipe(recipe, assignments or [], allow_imports)
        if resume:
            specified = _with_recorded(out, specified, allow_imports)
        elif data is None:
            raise UserError("specify the data: descend search DATA, for example: descend search digits")
        result = _searched(specified, out, resume, engine, device, allow_imports, show)
        assert result.path is not None  # the search has a folder, and has written its report into it
        report = result.path / "report.html"
        with already_saved(result.path, "search"):
            result.best.report()
            _summary(result, report, console)
        if quiet and not as_json:
            people().print(str(result.path), soft_wrap=True)
        answer(_answer(result, report))


def _recipe(file: Path | None, assignments: list[str], allow_imports: bool) -> Any:
    from descend.recipe import Recipe

    if file is None and not assignments:
        return None
    recipe = Recipe() if file is None else Recipe.load(file, allow_imports=allow_imports)
    return recipe.with_assignments(assignments) if assignments else recipe


def _with_recorded(out: Path | None, specified: dict[str, Any], allow_imports: bool) -> dict[str, Any]:
    """Fill options that are not specified now with those recorded when the search began."""
    from descend.experiments.search.journal import read_header
    from descend.experiments.search.space import Space
    from descend.recipe import Recipe

    if out is None:
        raise UserError("--resume requires the folder of the search: --out FOLDER")
    before = read_header(out)
    known = {key: before.get(key) for key in ("trials", "method", "metric", "brackets", "seed")}
    known |= {"data": before["data"]["reference"], "target": before["data"]["target"]}
    known["recipe"] = Recipe.loads(before["recipe"], allow_imports=allow_imports)
    known["space"] = Space.of(before["space"])
    if specified["data"] is None and not isinstance(known["data"], str):
        raise UserError(f"the search in {out} did not record where its data are; specify them: DATA")
    return {key: known[key] if value is None else value for key, value in specified.items()}


def _searched(
    specified: dict[str, Any],
    out: Path | None,
    resume: bool,
    engine: str,
    device: str | None,
    allow_imports: bool,
    show: Console,
) -> SearchResult:

    from descend.cli.folders import new_folder, remove_if_empty
    from descend.experiments.search import search
    from descend.experiments.search.journal import Journal
    from descend.experiments.search.progress import SearchBar
    from descend.many import EngineChoice

    engines = get_args(EngineChoice)
    if engine not in engines:
        raise UserError(f"--engine: expected one of {', '.join(engines)}, got '{engine}'")
    bars: list[SearchBar] = []

    def bar(journal: Journal, total: int, name: str) -> SearchBar:
        bars.append(SearchBar(show, journal, total, name))
        return bars[0]

    folder = out or new_folder(f"{Path(str(specified['data'])).stem}-search")
    try:
        return search(
            specified["data"],
            specified["recipe"],
            space=specified["space"],
            trials=TRIALS if specified["trials"] is None else specified["trials"],
            method=specified["method"] or METHOD,  # type: ignore[arg-type]  # it is checked there
            target=specified["target"],
            seed=specified["seed"] or 0,
            metric=specified["metric"],
            brackets=1 if specified["brackets"] is None else specified["brackets"],
            out=folder,
            resume=resume,
            engine=engine,  # type: ignore[arg-type]  # it was checked
            device=device,
            watchers=[] if show.quiet else [bar],
            allow_imports=allow_imports,
        )
    finally:
        for each in bars:
            each.close()
        remove_if_empty(folder)


def _summary(result: SearchResult, report: Path, console: Console) -> None:
    from descend.cli.summary import run_scores
    from descend.experiments.search.figures import value_text
    from descend.report.formatting import NO_BREAK, metric, score

    best, winner = result.best, result.winner
    spent, most = result.budget
    diverged = sum(trial.status == "diverged" for trial in result.trials)
    lost = f", {diverged} diverged" if diverged else ""
    console.print()
    console.print(
        f"{len(result.trials)} trials{lost}; {spent:,} epochs of at most {most:,}. Best: trial "
        f"{winner.number + 1}, validation {metric(result.metric)} "
        f"{score(result.metric, winner.score).replace(NO_BREAK, ' ')}."
    )
    if result.why:
        console.print(f"Trials are compared by {metric(result.metric)}, since {result.why}.")
    for key, value in winner.values.items():
        console.print(f"  {key} = {value_text(value)}", soft_wrap=True)
    console.print("The best configuration, trained again:")
    console.print(run_scores(best))
    console.print(f"Run     {best.path}", soft_wrap=True)
    console.print(f"Report  {report}", soft_wrap=True)


def _answer(result: SearchResult, report: Path) -> dict[str, Any]:
    """Return the JSON object of ``descend search --json``."""
    from descend.cli.summary import answer_of

    best = result.best
    return {
        "search": str(result.path),
        "report": str(report),
        "method": result.method,
        "metric": result.metric,
        "epochs": {"spent": result.budget[0], "most": result.budget[1]},
        "winner": result.winner.to_json(),
        "trials": [trial.to_json() for trial in result.trials],
        "best": answer_of(best, None if best.path is None else best.path / "report.html"),
    }
