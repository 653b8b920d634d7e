"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from descend.errors import UserError

__all__ = [
    "AllowImports",
    "Assignments",
    "Data",
    "Device",
    "Json",
    "NewData",
    "OptionalData",
    "ReadingAssignments",
    "RecipeFile",
    "RunFolder",
    "Seed",
    "SeveralNewData",
    "Target",
    "assigned",
    "output_path",
]

_DATA = (
    "A bundled data set (digits, breast_cancer, wine, iris, diabetes); a CSV, TSV, JSON, Parquet, Arrow, Excel or NPZ "
    "file, optionally compressed; a folder with one subfolder of images per class; - for standard input; or "
    "package.module:function."
)

Data = Annotated[str, typer.Argument(metavar="DATA", help=_DATA, show_default=False)]
OptionalData = Annotated[str | None, typer.Argument(metavar="DATA", help=_DATA, show_default=False)]
NewData = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Data in any form that training accepts.", show_default=False),
]
SeveralNewData = Annotated[
    list[str],
    typer.Argument(
        metavar="DATA", help="Data in any form that training accepts, or image files.", show_default=False
    ),
]
ReadingAssignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="data.KEY=VALUE",
        help="How to read DATA if it differs from the training data: separator, encoding, sheet, drop_missing_targets, "
        "label_separator.",
        show_default=False,
    ),
]
RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The run folder, as printed by descend train.", show_default=False),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column to predict; several columns are separated by commas.",
        show_default=False,
    ),
]


def output_path(text: str | Path) -> Path:
    """Return the path of an option such as --out; an empty string, as of an unset variable of a shell, is refused."""
    if text == "":
        raise typer.BadParameter("expected a path, got an empty string")
    return Path(text)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"expected an integer, got '{text}'") from None


Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="The seed of the random number generators.  [default: 0]",
        show_default=False,
        parser=_integer,
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE",
        help="A recipe in TOML. Keys that it omits are chosen from the data.",
        show_default=False,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Set one key of the recipe; repeatable. The value is TOML; the quotes of a single word can be omitted.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="The device: cpu, cuda, cuda:1, ...  [default: cuda if available, else cpu]",
        show_default=False,
    ),
]
AllowImports = Annotated[
    bool,
    typer.Option(
        "--allow-imports",
        help="Allow import paths in a recipe file or a run folder. Importing them runs their code.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print a single JSON object, and nothing else, on standard output."),
]


def assigned(assignments: Sequence[str] | None) -> dict[str, Any]:
    """Return the values of ``--set data.KEY=VALUE`` by their keys.

    >>> assigned(["data.encoding=cp1252"])
    {'encoding': 'cp1252'}
    """
    if not assignments:
        return {}
    from descend.recipe import Recipe

    recipe = Recipe().with_assignments(list(assignments))
    found = {key.removeprefix("data."): value for key, value in recipe.specified().items()}
    other = next((key for key in recipe.specified() if not key.startswith("data.")), None)
    if other is not None:
        raise UserError(f"--set {other}: only keys of [data] that read the new data can be set")
    return found
