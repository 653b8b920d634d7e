"""``descend gallery``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from descend.cli.options import Json, Seed, output_path
from descend.cli.output import answering, people, screen

if TYPE_CHECKING:
    from rich.console import Console

    from descend.gallery import FigureFiles, Picture

__all__ = ["EXAMPLES", "gallery"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend gallery               all figures, and gallery/index.html\n"
    "  descend gallery momentum      one figure\n"
    "  descend gallery --list        the names of the figures\n"
    "  descend gallery --seed 1      measure with other random numbers"
)


def gallery(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A figure.  [default: all]", show_default=False),
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="Print the names of the figures and exit.")] = False,
    out: Annotated[
        Path, typer.Option("--out", metavar="FOLDER", help="The output folder.", parser=output_path)
    ] = Path("gallery"),
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Measure the figures of the gallery and write each as a PNG file and an HTML page.

    A figure takes seconds. It states its claim, the number that was measured, and whether the measurement supports
    the claim.
    """
    with answering(as_json) as answer:
        from descend.gallery.catalogue import FIGURES, entry

        console = people()
        if name is not None:
            entry(name)
        names = [name] if name is not None else list(FIGURES)
        if listing:
            _list(names, console)
            answer({"figures": [{"name": each, "about": FIGURES[each].about} for each in names]})
            return
        answer(_measure(names, out, 0 if seed is None else seed, console))


def _list(names: list[str], console: Console) -> None:
    from descend.cli.preview import plain_table
    from descend.gallery.catalogue import FIGURES

    table = plain_table("name", "what it shows")
    for each in names:
        table.add_row(each, FIGURES[each].about)
    console.print(table)


def _measure(names: list[str], out: Path, seed: int, console: Console) -> dict[str, Any]:
    from descend.gallery import measure, prepare_folder, write_figure, write_index
    from descend.gallery.folder import summary

    prepare_folder(out)
    progress = screen(quiet=not sys.stderr.isatty())
    found = []
    for number, each in enumerate(names, 1):
        progress.print(f"{number} of {len(names)}: {each} ...", end="\r")
        picture = measure(each, seed)
        files = write_figure(picture, out, seed)
        _print_figure(picture, files, console)
        found.append(summary(picture, seed) | {"png": str(files.image), "html": str(files.page)})
    index = write_index(out)
    console.print(f"All figures: {index}")
    return {
        "folder": str(out),
        "index": str(index),
        "seconds": round(sum(one["seconds"] for one in found), 3),
        "figures": found,
    }


def _print_figure(picture: Picture, files: FigureFiles, console: Console) -> None:
    console.print(f"{picture.name}: {picture.title} ({picture.seconds:.1f} s)", style="bold")
    console.print(f"{picture.finding} {picture.verdict}")
    console.print(f"{files.image}, {files.page}\n")
