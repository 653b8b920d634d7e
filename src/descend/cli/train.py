"""``descend train``."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from descend.cli.folders import new_folder
from descend.cli.options import (
    AllowImports,
    Assignments,
    Device,
    Json,
    OptionalData,
    RecipeFile,
    Seed,
    Target,
)
from descend.cli.output import answering, people, screen
from descend.errors import Interrupted, RunError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from descend.recipe import Recipe
    from descend.runs.plan import Plan
    from descend.runs.run import Run

__all__ = ["EXAMPLES", "asked_recipe", "train"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend train digits\n"
    "  descend train houses.csv --target price\n"
    "  descend train pictures/ --set model.channels=[32,64,128] --out runs/pictures\n"
    "  descend train digits --set optimizer.name=sgd --set optimizer.lr=0.1 --set stop.max_epochs=5\n"
    "  descend train --resume --out runs/pictures"
)


def train(
    data: OptionalData = None,
    target: Target = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    seed: Seed = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder of the run.  [default: runs/NAME-DATE-TIME]",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out from its last checkpoint, to the same result as if it had never "
            "stopped. DATA may be left out where they are a file, a folder or a bundled set.",
        ),
    ] = False,
    device: Device = None,
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Data that choose when to stop, instead of a part of DATA.",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="Data touched once, at the end, instead of a part of DATA.",
            show_default=False,
        ),
    ] = None,
    tensorboard: Annotated[
        bool,
        typer.Option("--tensorboard", help="Also write the curves for TensorBoard, into the run's folder."),
    ] = False,
    allow_imports: AllowImports = False,
    as_json: Json = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print only the run's folder, and what went wrong.")
    ] = False,
) -> None:
    """Train a network on DATA and save it, with a report, in a folder of its own.

    The columns, the task and every choice of training are found from the data and shown; whatever you want
    otherwise, say with --set or in a recipe. Ctrl-C saves a checkpoint, from which --resume continues.
    """
    with answering(as_json) as answer:
        found, show = people(quiet=quiet), screen(quiet=quiet)
        if resume:
            data = _to_resume(data, out, allow_imports)
        elif data is None:
            raise UserError("say what to train on: descend train DATA; a first try is: descend train digits")
        with show.status(f"Reading {data}"):
            from descend.cli.preview import preview
            from descend.cli.summary import answer_of, summary
            from descend.runs.plan import plan_run

            planned = plan_run(
                data,
                asked_recipe(recipe, assignments or [], allow_imports),
                out,
                resume=resume,
                target=target,
                seed=seed or 0,
                device=device,
                validation=validation,
                test=test,
                allow_imports=allow_imports,
            )
        if resume and seed is not None and seed != planned.seed:
            raise RunError(f"the run in {out} was started with --seed {planned.seed}, not {seed}")
        if resume and out is not None and (out / "manifest.json").exists():
            from descend.runs.run import load

            run = load(out, allow_imports=allow_imports)
            found.print(f"The run in {out} is finished; there is nothing left to train.")
        else:
            preview(planned, found)
            folder = out or new_folder(planned.source.name)
            run = _trained(planned, folder, resume, tensorboard, show)
        report = _reported(run, show)
        summary(run, report, found)
        if quiet and not as_json:
            people().print(str(run.path), soft_wrap=True)
        answer(answer_of(run, report))


def asked_recipe(file: Path | None, assignments: Sequence[str], allow_imports: bool) -> Recipe:
    """The recipe of a file, with what --set changes."""
    from descend.recipe import Recipe

    asked = Recipe() if file is None else Recipe.load(file, allow_imports=allow_imports)
    return asked.with_assignments(list(assignments)) if assignments else asked


def _to_resume(data: str | None, out: Path | None, allow_imports: bool) -> str:
    """The data to resume with: as said, or as the run in the folder names them."""
    if out is None:
        raise UserError("--resume needs the folder of the run: --out FOLDER")
    if data is not None:
        return data
    if not out.is_dir():
        raise RunError(f"nothing to resume in {out}: there is no such folder")
    try:
        environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
        reference = environment["data"]["reference"]
    except FileNotFoundError:
        raise RunError(f"nothing to resume in {out}: it holds no run") from None
    except (OSError, ValueError, KeyError, TypeError) as cause:
        raise RunError(f"{out / 'environment.json'} is damaged: {cause}") from cause
    if not isinstance(reference, str):
        raise RunError(f"the run in {out} does not say which data it was trained on; name them: DATA")
    if re.fullmatch(r"[\w.]+:[\w.]+", reference) and not Path(reference).exists() and not allow_imports:
        raise RunError(
            f"the data of the run in {out} come from the function {reference}, and calling it runs its code; "
            f"if it is yours, name it: descend train {reference} --resume --out {out}"
        )
    return reference


def _trained(planned: Plan, folder: Path, resume: bool, tensorboard: bool, show: Console) -> Run:
    """Train, with a progress bar that is gone afterwards, whatever happened."""
    from descend.api import execute
    from descend.many.restarts import copies
    from descend.metrics import main_metric
    from descend.training.loop import Observer
    from descend.training.observers import ProgressBar, TensorBoard

    bar = ProgressBar(show, main_metric(planned.prepared.schema.task))
    networks = copies(planned.recipe)
    watching: list[Observer] = [] if show.quiet or networks > 1 else [bar]
    try:
        if networks > 1 and not tensorboard:
            with show.status(f"Training {networks} networks"):
                return execute(planned, folder, resume=resume)
        if tensorboard:
            watching.append(TensorBoard(folder / "tensorboard"))
        return execute(planned, folder, resume=resume, observers=watching)
    except KeyboardInterrupt:
        bar.close()
        if (folder / "checkpoints" / "last.safetensors").exists():
            raise Interrupted(
                f"stopped at once; go on from the last checkpoint: descend train --resume --out {folder}"
            ) from None
        raise Interrupted(f"stopped at once, before the first checkpoint of {folder}") from None
    finally:
        bar.close()
        with suppress(OSError):
            folder.rmdir()  # only an empty folder goes: training had not begun


def _reported(run: Run, show: Console) -> Path | None:
    """The report; a fault in writing it must not hide that training went well."""
    try:
        return run.report()
    except Exception as fault:
        show.print(f"The report could not be written ({type(fault).__name__}: {fault}).", soft_wrap=True)
        show.print(f"Everything else is saved; try again with: descend report {run.path}", soft_wrap=True)
        return None
