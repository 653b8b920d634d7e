"""``descend doctor``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descend.cli.options import AllowImports, Assignments, Device, Json, RecipeFile, Seed, Target
from descend.cli.output import answering, people, screen
from descend.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from descend.doctor import Finding

__all__ = ["EXAMPLES", "doctor"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend doctor runs/houses                       why is this run worse than it could be?\n"
    "  descend doctor runs/houses --verify 5            test the remedies with 5 seeds\n"
    "  descend doctor runs/houses --apply --out runs/repaired\n"
    "  descend doctor houses.csv --target price         what is wrong before training?\n"
    "  descend doctor digits --set optimizer.lr=10 --json"
)


def doctor(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="RUN|DATA",
            help="A run folder, or data in any form that descend train accepts.",
            show_default=False,
        ),
    ],
    target: Target = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    seed: Seed = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="The data of the run, if moved.  [default: those the run recorded]",
            show_default=False,
        ),
    ] = None,
    verify: Annotated[
        int,
        typer.Option(
            metavar="SEEDS",
            min=0,
            help="Train each remedy and the original with this many seeds, and test the differences.",
        ),
    ] = 0,
    apply: Annotated[
        bool, typer.Option("--apply", help="Train the recipe with the remedy of the first finding, in --out.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="The folder of the repaired run.  [default: RUN-repaired]",
            show_default=False,
        ),
    ] = None,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
) -> None:
    """Find what is wrong with a run, or with data and a recipe before training; name the cause and the remedy.

    For a run, each cause that may be present is tested by training the recipe with one change, on the same rows and with the
    same seed. Nothing is changed unless --apply is given. An empty list of findings means that no change helped.
    """  # fmt: skip
    with answering(as_json) as answer:
        console, show = people(), screen()
        is_run = _is_run(subject)
        if not is_run and (verify or apply or data is not None or out is not None):
            raise UserError(f"--verify, --apply, --data and --out need a run folder, and {subject} is none")
        if is_run and (target is not None or recipe is not None or assignments or seed is not None):
            raise UserError(
                f"{subject} is a run, whose recipe, target and seed are examined; --target, --recipe, --set and --seed are "
                "for data"
            )
        with show.status(f"Examining {subject}"):
            if is_run:
                from descend.doctor import examine_run

                findings = examine_run(subject, data, allow_imports=allow_imports, progress=False)
            else:
                from descend.cli.train import requested_recipe
                from descend.doctor import examine_data

                findings = examine_data(
                    subject,
                    requested_recipe(recipe, assignments or [], allow_imports),
                    seed=seed or 0,
                    device=device,
                    allow_imports=allow_imports,
                    target=target,
                )
        _print(findings, console, run=is_run)
        result: dict[str, Any] = {"subject": subject, "findings": [each.to_dict() for each in findings]}
        if verify and findings:
            result["verified"] = _verified(subject, data, findings, verify, allow_imports, console)
        if apply:
            result["repaired"] = _applied(subject, data, findings, out, allow_imports, console)
        answer(result)


def _is_run(subject: str) -> bool:
    from descend.runs.folder import is_started

    return Path(subject).is_dir() and is_started(Path(subject))


def _print(findings: Sequence[Finding], console: Console, *, run: bool) -> None:
    if not findings:
        console.print(
            "No cause was found: none of the changes that were tried lowers the validation error by more than chance."
            if run
            else "No cause was found."
        )
    for number, finding in enumerate(findings, start=1):
        console.print(f"{number}. {finding.title} ({round(100 * finding.certainty)} % certain)", markup=False)
        for line in finding.evidence:
            console.print(f"   {line}", markup=False, soft_wrap=True)
        if finding.advice:
            console.print(f"   {finding.advice}", markup=False, soft_wrap=True)
        if finding.remedy:
            options = " ".join(f"--set {key}={_written(value)}" for key, value in finding.remedy.items())
            console.print(f"   Remedy: {options}", markup=False, soft_wrap=True)


def _written(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return "[" + ",".join(map(str, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _verified(
    subject: str,
    data: str | None,
    findings: Sequence[Finding],
    seeds: int,
    allow_imports: bool,
    console: Console,
) -> list[dict[str, Any]]:
    from descend.doctor import verify_remedies

    results = verify_remedies(subject, findings, data, seeds=seeds, allow_imports=allow_imports)
    for each in results:
        bounds = (
            ""
            if each.interval is None
            else f", 95 % interval {each.interval[0]:.3g} to {each.interval[1]:.3g}"
        )
        p = "" if each.p is None else f", p = {each.p:.2g} after Holm's correction"
        console.print(
            f"{each.cause}: {each.metric} {each.before:.4g} -> {each.after:.4g}, difference {each.difference:+.3g}{bounds}{p}",
            markup=False,
            soft_wrap=True,
        )
    return [each.to_dict() for each in results]


def _applied(
    subject: str,
    data: str | None,
    findings: Sequence[Finding],
    out: Path | None,
    allow_imports: bool,
    console: Console,
) -> str | None:
    from descend.doctor import train_repaired

    first = next((each for each in findings if each.remedy), None)
    if first is None:
        console.print("There is no remedy to apply.")
        return None
    folder = out or Path(f"{subject.rstrip('/')}-repaired")
    train_repaired(subject, first, folder, data, allow_imports=allow_imports)
    console.print(f"Repaired run  {folder}", soft_wrap=True)
    return str(folder)
