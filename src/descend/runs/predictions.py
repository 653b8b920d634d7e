"""Predictions as a table: what ``descend predict`` writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from descend.data.settings import DataSettings
from descend.data.source import Source
from descend.errors import UserError, did_you_mean
from descend.param_types import check, of_constructor
from descend.training.predictor import Predictor

__all__ = ["READING", "prediction_table", "reading_settings"]

READING = ("separator", "encoding", "sheet", "drop_missing_targets")
"""Keys of ``[data]`` that determine how new data are read; all others are those of training."""


def reading_settings(settings: Mapping[str, Any] | None) -> DataSettings | None:
    """Return the settings that read new data.

    Args:
        settings: some of the keys :data:`READING`, with or without ``data.``; None if nothing is specified.

    >>> reading_settings({"encoding": "cp1252"}).encoding
    'cp1252'

    Raises:
        UserError: another key is specified, or a value has a wrong type.
    """
    if not settings:
        return None
    fields = of_constructor(DataSettings, ()) or {}
    values = {}
    for key, value in settings.items():
        name = key.removeprefix("data.")
        if name not in READING:
            raise UserError(
                f"data.{name} cannot be set for new data, which are read as in training; {did_you_mean(name, READING)}"
            )
        values[name], fault = check(fields[name], value)
        if fault is not None:
            raise UserError(f"data.{name}: {fault}")
    return dataclasses.replace(DataSettings(), **values)


def prediction_table(predictor: Predictor, source: Source) -> pl.DataFrame:
    """Return the predictions for a source, one row for each of its rows.

    The columns are those that the source keeps, ``file`` for images, ``prediction`` (``prediction_TARGET`` for several
    targets), and ``probability_CLASS`` for classes. A kept column whose name is one of these gets the prefix ``kept_``.

    Args:
        predictor: the trained network.
        source: the rows.
    """
    schema = predictor.schema
    if source.kind == "dataset":
        raise UserError(f"{source.name} is a torch Dataset; prediction needs its inputs as an array")
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
        found = np.asarray(schema.probabilities(predictor.finished(outputs), predictor.form))
        for at, label in enumerate(schema.labels.tolist()):
            name = str(label).lower() if isinstance(label, bool) else str(label)
            columns[f"probability_{name}"] = pl.Series(found[:, at])
    kept: dict[str, pl.Series] = {}
    for series in source.kept if source.kept is not None else ():
        name = series.name
        while name in columns or name in kept:
            name = f"kept_{name}"
        kept[name] = series
    return pl.DataFrame({**kept, **columns})
