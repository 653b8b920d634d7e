"""``descend export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from descend.cli.options import AllowImports, RunFolder, output_path
from descend.errors import UserError

__all__ = ["EXAMPLES", "export"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend export runs/houses --format onnx\n"
    "  descend export runs/houses --format pt2 --out houses.pt2"
)


class Format(StrEnum):
    """The formats of ``export``."""

    pt2 = "pt2"
    onnx = "onnx"
    safetensors = "safetensors"


def export(
    run: RunFolder,
    format: Annotated[
        Format,
        typer.Option(
            help="pt2: a PyTorch program. onnx: for other runtimes. safetensors: the weights only.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The file to write.  [default: in the run's folder]",
            show_default=False,
            parser=output_path,
        ),
    ] = None,
    allow_imports: AllowImports = False,
) -> None:
    """Export a trained network for use without descend, and print the path of the file.

    pt2 and onnx files contain the preprocessing: raw rows in, predictions out. They also contain a description of their
    inputs and outputs as JSON, with an example.
    """
    if out is not None and out.exists():
        raise UserError(
            f"--out {out} already exists and is not overwritten; choose another name or remove it"
        )
    from descend.runs.run import load

    trained = load(run, allow_imports=allow_imports)
    typer.echo(trained.export(format.value, out))
