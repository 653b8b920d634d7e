"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "AllowImports",
    "Assignments",
    "Data",
    "Device",
    "Json",
    "NewData",
    "OptionalData",
    "RecipeFile",
    "RunFolder",
    "Seed",
    "Target",
]

_DATA = (
    "A bundled set (digits, breast_cancer, wine, iris, diabetes); a CSV, TSV, Parquet, Arrow or NPZ file; "
    "a folder of images by class; or package.module:function."
)

Data = Annotated[str, typer.Argument(metavar="DATA", help=_DATA, show_default=False)]
OptionalData = Annotated[str | None, typer.Argument(metavar="DATA", help=_DATA, show_default=False)]
NewData = Annotated[
    str,
    typer.Argument(metavar="DATA", help="Data of any form that training takes.", show_default=False),
]
RunFolder = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The folder of a run, as train printed it.", show_default=False),
]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="The column to predict; several columns of numbers are joined by commas.",
        show_default=False,
    ),
]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"a whole number was expected, found '{text}'") from None


Seed = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Every random number follows from it.  [default: 0]",
        show_default=False,
        parser=_whole,
    ),
]
RecipeFile = Annotated[
    Path | None,
    typer.Option(
        "--recipe",
        metavar="FILE",
        help="A recipe in TOML. What it leaves open is chosen for the data.",
        show_default=False,
    ),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Change one key of the recipe; may be repeated. The value is TOML; a bare word is a text.",
        show_default=False,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Where the arithmetic runs: cpu, cuda, cuda:1, ...  [default: the fastest there is]",
        show_default=False,
    ),
]
AllowImports = Annotated[
    bool,
    typer.Option(
        "--allow-imports",
        help="Let a recipe file or a run folder name classes by import path. Importing runs their code.",
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Print one JSON object on standard output; words for people go elsewhere."),
]
