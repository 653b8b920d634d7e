"""``descend predict``."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from descend.cli.options import AllowImports, NewData, RunFolder, output_path
from descend.cli.output import LastingStream
from descend.errors import UserError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

    from descend.runs.run import Run

__all__ = ["EXAMPLES", "predict"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend predict runs/houses new_houses.csv\n"
    "  descend predict runs/houses new_houses.csv --out prices.parquet"
)

SUFFIXES = (".csv", ".tsv", ".parquet", ".json")


def predict(
    run: RunFolder,
    data: NewData,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The output file; its suffix (.csv, .tsv, .parquet or .json) determines the format. "
            "[default: CSV on standard output]",
            show_default=False,
            parser=output_path,
        ),
    ] = None,
    allow_imports: AllowImports = False,
) -> None:
    """Predict each row of DATA with a trained network.

    DATA needs no target column, and the rows keep their order. The column "prediction" contains the labels in
    the form they had in training, or numbers in the target's unit; with several targets, each has a column
    "prediction_TARGET". For classes, columns "probability_CLASS" follow. For images, the first column is "file".
    """
    if out is not None:
        _check_writable(out)
    from descend.runs.run import load

    trained = load(run, allow_imports=allow_imports)
    frame = _predictions(trained, data)
    if out is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8")
        stream = LastingStream(sys.stdout)
        stream.write(frame.write_csv())
        stream.flush()
    else:
        _write(frame, out)


def _check_writable(out: Path) -> None:
    if out.suffix.lower() not in SUFFIXES:
        hint = did_you_mean(out.suffix.lower(), SUFFIXES)
        raise UserError(f"--out {out}: unknown file suffix '{out.suffix}'; {hint}")
    if not out.parent.is_dir():
        raise UserError(f"--out {out}: no such folder: {out.parent}")
    if out.exists():
        raise UserError(
            f"--out {out} already exists and is not overwritten; choose another name or remove it"
        )


def _predictions(trained: Run, data: str) -> pl.DataFrame:
    """Return the predictions, one row for each row of the data."""
    import polars as pl

    from descend.data.sources import read

    schema, predictor = trained.schema, trained.predictor
    source = read(data, schema=schema, predicting=True)
    if source.kind == "dataset":
        raise UserError(f"{data} is a torch Dataset; predict needs its inputs as an array")
    outputs = predictor.outputs(source)
    labels = predictor.decode(outputs)
    columns: dict[str, pl.Series] = {}
    if source.row_names is not None:
        columns["file"] = pl.Series(source.row_names)
    if labels.ndim == 1:
        columns["prediction"] = pl.Series(labels.tolist())
    else:
        for at, name in enumerate(schema.target_names):
            columns[f"prediction_{name}"] = pl.Series(labels[:, at].tolist())
    if schema.classes:
        found = schema.probabilities(predictor.finished(outputs), predictor.form).numpy()
        for at, label in enumerate(schema.labels.tolist()):
            name = str(label).lower() if isinstance(label, bool) else str(label)
            columns[f"probability_{name}"] = pl.Series(found[:, at])
    return pl.DataFrame(columns)


def _write(frame: pl.DataFrame, out: Path) -> None:
    """Write the file so that it is complete or absent."""
    partial = out.with_name(f".{out.name}.partial")
    suffix = out.suffix.lower()
    try:
        if suffix == ".parquet":
            frame.write_parquet(partial)
        elif suffix == ".json":
            frame.write_json(partial)
        else:
            frame.write_csv(partial, separator="\t" if suffix == ".tsv" else ",")
        partial.replace(out)
    except OSError as cause:
        raise UserError(f"--out {out} cannot be written: {cause.strerror or cause}") from cause
    finally:
        partial.unlink(missing_ok=True)
