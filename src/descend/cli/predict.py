"""``descend predict``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from descend.cli.options import (
    AllowImports,
    ReadingAssignments,
    RunFolder,
    SeveralNewData,
    assigned,
    output_path,
)
from descend.cli.output import LastingStream, screen
from descend.errors import InvalidRowsError, UserError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["EXAMPLES", "predict"]

EXAMPLES = (
    "\b\nExamples:\n"
    "  descend predict runs/houses new_houses.csv\n"
    "  descend predict runs/houses new_houses.csv --keep id --out prices.parquet\n"
    "  descend predict runs/pictures photo.png"
)

SUFFIXES = (".csv", ".tsv", ".parquet", ".json")


def predict(
    run: RunFolder,
    data: SeveralNewData,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The output file; its suffix (.csv, .tsv, .parquet or .json) determines the format.  "
            "[default: CSV on standard output]",
            show_default=False,
            parser=output_path,
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN,...",
            help="Columns of DATA to copy unchanged in front of the predictions, such as a row identifier; repeatable.",
            show_default=False,
        ),
    ] = None,
    skip_invalid: Annotated[
        bool,
        typer.Option(
            "--skip-invalid",
            help="Instead of stopping at a row with an unusable value, such as an infinite number, leave its prediction empty.",
        ),
    ] = False,
    assignments: ReadingAssignments = None,
    allow_imports: AllowImports = False,
) -> None:
    """Predict each row of DATA with a trained network.

    DATA does not need a target column, and the rows keep their order. The column "prediction" contains the labels as they
    were written in the training data, or numbers in the unit of the target; with several targets, there is a column
    "prediction_TARGET" for each. Classification adds a column "probability_CLASS" for each class; losses that predict a
    distribution add columns such as "standard_deviation" or "quantile_0.9". For a network trained on images, DATA can
    also be one or more image files; the first column is then "file".
    """
    if out is not None:
        _check_writable(out)
    from descend.data.sources import read
    from descend.runs.predictions import prediction_table, reading_settings
    from descend.runs.run import load

    trained = load(run, allow_imports=allow_imports)
    source = read(
        data[0] if len(data) == 1 else _images(data),
        schema=trained.schema,
        predicting=True,
        settings=reading_settings(assigned(assignments)),
        keep=keep or (),
    )
    for note in source.notes:
        screen().print(f"Note: {note}", soft_wrap=True, markup=False)
    try:
        frame = prediction_table(trained.predictor, source, trained.loss, skip_invalid=skip_invalid)
    except InvalidRowsError as problem:
        if len(problem.rows) == len(source):
            raise
        raise UserError(f"{problem}; --skip-invalid predicts the other rows") from problem
    if skip_invalid:
        _note_skipped(frame)
    if out is None:
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(encoding="utf-8")
        stream = LastingStream(sys.stdout)
        stream.write(frame.write_csv())
        stream.flush()
    else:
        _write(frame, out)


def _note_skipped(frame: pl.DataFrame) -> None:
    """Print which rows have no prediction."""
    import numpy as np

    from descend.data.messages import rows_text

    name = next(column for column in frame.columns if column.startswith("prediction"))
    rows = np.flatnonzero(frame[name].is_null().to_numpy())
    if len(rows):
        verb = "has" if len(rows) == 1 else "have"
        screen().print(f"Note: {rows_text(rows)} {verb} no prediction", soft_wrap=True, markup=False)


def _images(data: list[str]) -> list[str]:
    """Return several paths, which must be those of images."""
    from descend.data.image_folders import is_images

    odd = [one for one in data if not is_images(one)]
    if odd:
        raise UserError(
            f"{odd[0]}: several files can be predicted at once only if all are images; predict each table by its own "
            "command, or put tables with equal columns into one folder"
        )
    return data


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
