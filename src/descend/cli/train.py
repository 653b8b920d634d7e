"""``descend train``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from descend.cli.folders import new_folder, remove_if_empty
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
from descend.errors import Interrupted, RunError, UserError
from descend.files import read_json

if TYPE_CHECKING:
    from rich.console import Console

    from descend.recipe import Recipe
    from descend.runs.plan import Plan
    from descend.runs.run import Run

__all__ = ["EXAMPLES", "requested_recipe", "train"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend train digits\n"
    "  descend train houses.csv --target price\n"
    "  descend train pictures/ --set model.channels=[32,64,128] --out runs/pictures\n"
    "  descend train digits --set optimizer.name=sgd --set optimizer.lr=0.1 --set stop.max_epochs=5\n"
    "  descend train houses.csv --preset best --minutes 10\n"
    "  descend train --resume --out runs/pictures --set stop.max_epochs=200"
)


def train(
    data: OptionalData = None,
    target: Target = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="quick, one network; good, an ensemble of different networks for tables at a few times the time; or best, a "
            "search for networks and their ensemble until --minutes are spent; the same as --set model.preset=NAME.  "
            "[default: good for a table if the recipe leaves the network and its training open, else quick]",
            show_default=False,
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="N",
            help="The time of the preset best; the same as --set model.minutes=N. With --resume, a larger number "
            "continues the search.  [default: 10]",
            show_default=False,
        ),
    ] = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder of the run.  [default: runs/NAME-DATE-TIME]",
            show_default=False,
            parser=output_path,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out from its last checkpoint; the result equals an uninterrupted run bit for bit. "
            "DATA can be omitted if it is a file, a folder or a bundled data set. The sections [stop] and [checkpoint] can be "
            "changed, even for a finished run: --set stop.max_epochs=200.",
        ),
    ] = False,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="Once the scores on validation and test rows are known, train again on all rows, for the number of epochs whose "
            "weights were kept; the same as --set stop.refit=true. The scores are then those of the first training.",
        ),
    ] = False,
    device: Device = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Validation data, used to decide when to stop.  [default: a part of DATA]",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Test data, evaluated once at the end.  [default: a part of DATA]",
            show_default=False,
        ),
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Also write TensorBoard logs to the run folder."),
    ] = False,
    allow_imports: AllowImports = False,
    as_json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the run folder and errors.")] = False,
) -> None:
    """Train a network on DATA and save it with a report in a new run folder.

    The column types, the task and all training choices are derived from the data and shown; override them with --set or
    a recipe. Ctrl-C saves a checkpoint: --resume continues from it, and "descend finish" turns it into a result; with the
    preset best it ends the search with the best ensemble so far.
    """
    with answering(as_json) as answer:
        console, show = people(quiet=quiet), screen(quiet=quiet)
        if resume:
            data = _to_resume(data, out, allow_imports)
        elif data is None:
            raise UserError("specify the data: descend train DATA, for example: descend train digits")
        with show.status(f"Reading {data}"):
            from descend.cli.preview import preview
            from descend.cli.summary import answer_of, summary, written_report
            from descend.runs.plan import plan_run

            planned = plan_run(
                data,
                requested_recipe(
                    recipe, _with_shorthands(assignments or [], preset, minutes, refit), allow_imports
                ),
                out,
                resume=resume,
                target=target,
                seed=seed or 0,
                device=device,
                validation=validation,
                test=test,
                allow_imports=allow_imports,
                ensembles=not tensorboard,
            )
        if resume and seed is not None and seed != planned.seed:
            raise RunError(f"the run in {out} was started with --seed {planned.seed}, not {seed}")
        if resume and out is not None and planned.before is None and _is_complete(out, planned):
            from descend.runs.run import load

            run = load(out, allow_imports=allow_imports)
            console.print(f"The run in {out} is finished; there is nothing left to train.{_more_time(run)}")
        else:
            preview(planned, console, new=not resume)
            folder = out or new_folder(planned.source.name)
            run = _trained(planned, folder, resume, tensorboard, show)
        with already_saved(run.path):
            report = written_report(run, show)
            summary(run, report, console)
        if quiet and not as_json:
            people().print(str(run.path), soft_wrap=True)
        answer(answer_of(run, report))


PRESETS = ("quick", "good", "best")


def _with_shorthands(
    assignments: list[str], preset: str | None, minutes: float | None, refit: bool
) -> list[str]:
    if preset not in (None, "auto", *PRESETS):
        raise UserError(f"--preset {preset}: expected {', '.join(PRESETS[:-1])} or {PRESETS[-1]}")
    options = {"preset": preset, "minutes": minutes}
    own = [f"model.{key}={value}" for key, value in options.items() if value is not None]
    return [*own, *(["stop.refit=true"] if refit else []), *assignments]


def requested_recipe(file: Path | None, assignments: Sequence[str], allow_imports: bool) -> Recipe:
    """Return the recipe of a file with the assignments of --set applied."""
    from descend.recipe import Recipe

    recipe = Recipe() if file is None else Recipe.load(file, allow_imports=allow_imports)
    return recipe.with_assignments(list(assignments)) if assignments else recipe


def _to_resume(data: str | None, out: Path | None, allow_imports: bool) -> str:
    """Return the data to resume with: those specified, or those the run recorded."""
    if out is None:
        raise UserError("--resume requires the run folder: --out FOLDER")
    if data is not None:
        return data
    from descend.runs.recorded_data import recorded_data

    return str(recorded_data(out, allow_imports=allow_imports).source)


def _is_complete(folder: Path, planned: Plan) -> bool:
    """Whether a run was trained to its end, and not only to a stop on request."""
    from descend.many.budget import SPENT
    from descend.many.refit import is_refitted
    from descend.runs.folder import METRICS, is_finished
    from descend.training.loop import RULES

    if planned.recipe.stop.get("refit") and not is_refitted(folder):
        return False
    return is_finished(folder) and read_json(folder / METRICS).get("stopped") in (*RULES, *SPENT)


def _more_time(run: Run) -> str:
    """How to continue a search whose time is spent; empty for other runs."""
    if run.recipe.model.get("preset") != "best":
        return ""
    key = "--minutes" if run.metrics["stopped"] == "minutes" else "--set model.max_rounds="
    return f" Continue the search with a larger {key}"


def _trained(planned: Plan, folder: Path, resume: bool, tensorboard: bool, show: Console) -> Run:
    """Train with a progress bar, which is removed afterwards in any case."""
    from descend.api import execute
    from descend.metrics import main_metric
    from descend.recipe.members import networks_per_run
    from descend.runs.folder import CHECKPOINTS
    from descend.training.checkpoint import LAST_FILE
    from descend.training.loop import Observer
    from descend.training.observers import TensorBoard
    from descend.training.progress import ProgressBar

    bar = ProgressBar(show, main_metric(planned.prepared.schema.task))
    networks = networks_per_run(planned.recipe)
    timed = planned.recipe.model.get("preset") == "best"
    what = (
        f"Training networks for {planned.recipe.model['minutes']:g} minutes"
        if timed
        else f"Training {networks} networks"
    )
    observers: list[Observer] = [] if show.quiet or networks > 1 else [bar]
    if networks > 1 and tensorboard:
        raise UserError(
            "--tensorboard records one network, and init.restarts and model.ensemble train several"
        )
    try:
        if networks > 1:
            with show.status(what):
                return execute(planned, folder, resume=resume)
        if tensorboard:
            observers.append(TensorBoard(folder / "tensorboard"))
        return execute(planned, folder, resume=resume, observers=observers)
    except KeyboardInterrupt:
        bar.close()
        if (folder / CHECKPOINTS / LAST_FILE).exists():
            raise Interrupted(
                f"stopped at once; continue from the last checkpoint: descend train --resume --out {folder}"
            ) from None
        raise Interrupted(f"stopped before the first checkpoint of {folder}") from None
    finally:
        bar.close()
        remove_if_empty(folder)
