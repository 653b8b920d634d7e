"""Predictions as a table: what ``descend predict`` writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import Array, Source
from descend.errors import InvalidRowsError, UserError, did_you_mean
from descend.interface import setting
from descend.losses import Loss
from descend.losses.base import Predicted
from descend.param_types import check, of_constructor
from descend.training.predictor import Predictor

__all__ = ["READING", "distribution_of", "prediction_table", "reading_settings", "usable_rows"]

_ROW = "row\0number"

READING = ("separator", "encoding", "sheet", "drop_missing_targets", "label_separator")
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


def distribution_of(schema: Schema, loss: Any, outputs: Tensor) -> dict[str, Array]:
    """Return the distribution of the targets that raw outputs of a network describe, by name, in the units of the targets.

    Args:
        schema: of the network's data.
        loss: the loss it was trained with.
        outputs: its raw outputs.

    Returns:
        Arrays (n,), or (n, T) for several targets.

    Raises:
        UserError: the loss predicts no distribution.
    """
    if schema.classes:
        raise UserError(
            "predict_distribution is for regression; predict_proba returns the probabilities of classes"
        )
    if not isinstance(loss, Loss):
        raise UserError(
            f"a loss by import path declares no distribution; use {setting('loss.name', 'gaussian')}, or 'quantile', "
            "'poisson' or 'negative_binomial'"
        )
    with torch.inference_mode():
        described = loss.distribution(outputs.double().cpu())
        if schema.target_transforms:
            found = _transformed(schema, described)
        else:
            scale = torch.tensor(schema.target_scale, dtype=torch.float64)
            found = {}
            for name, (values, kind) in described.items():
                units = {"location": schema.in_units, "scale": lambda numbers: numbers * scale}
                found[name] = units[kind](values) if kind in units else values
    return {
        name: values.numpy()[:, 0] if schema.task == "regression" else values.numpy()
        for name, values in found.items()
    }


_NODES, _SHARES = np.polynomial.hermite_e.hermegauss(64)


def _transformed(schema: Schema, described: Mapping[str, Predicted]) -> dict[str, Tensor]:
    """Return a distribution in the units of targets that are learned as a function of themselves.

    Quantiles keep their level, because the function increases. Of a normal distribution of the learned target, the mean
    and the standard deviation of the target are integrals, computed by Gauss-Hermite quadrature.
    """
    if "standard_deviation" not in described:
        return {name: schema.in_units(values) for name, (values, _) in described.items()}
    mean, deviation = described["mean"].values, described["standard_deviation"].values
    shares = torch.tensor(_SHARES / _SHARES.sum()).reshape(-1, 1, 1)
    targets = torch.stack([schema.in_units(mean + deviation * node) for node in _NODES])
    average = (shares * targets).sum(0)
    variance = (shares * (targets - average).square()).sum(0)
    return {"mean": average, "standard_deviation": variance.sqrt(), "median": schema.in_units(mean)}


def usable_rows(schema: Schema, source: Source) -> Array:
    """Return the numbers of the rows that can be predicted; the others contain values that their columns cannot have.

    Raises:
        DataError: the columns are not those of training, or no row can be predicted.
    """
    rows = np.arange(len(source))
    while True:
        try:
            schema.matrix(source.take(rows))
        except InvalidRowsError as problem:
            rows = np.delete(rows, sorted(problem.rows))
            if not len(rows):
                raise
        else:
            return rows


def prediction_table(
    predictor: Predictor, source: Source, loss: Any = None, *, skip_invalid: bool = False
) -> pl.DataFrame:
    """Return the predictions for a source, one row for each of its rows.

    The columns are those that the source keeps, ``file`` for images, ``prediction`` (``prediction_TARGET`` for several
    targets), ``probability_CLASS`` for classes or ``probability_TARGET`` for labels, and for a loss that predicts a
    distribution what describes it, such as ``standard_deviation`` (``standard_deviation_TARGET``). A kept column whose
    name is one of these gets the prefix ``kept_``.

    Args:
        predictor: the trained network.
        source: the rows.
        loss: the loss that the network was trained with. Default None: no columns of a distribution.
        skip_invalid: whether rows with values that cannot be used, such as infinite ones, get no prediction (null),
            instead of an error that names them. Default False.
    """
    schema = predictor.schema
    if skip_invalid and source.frame is not None:
        rows = usable_rows(schema, source)
        if len(rows) < len(source):
            return _with_gaps(prediction_table(predictor, source.take(rows), loss), rows, source)
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
        several = schema.task == "multi_label"
        for at, label in enumerate(schema.target_names if several else schema.labels.tolist()):
            name = str(label).lower() if isinstance(label, bool) else str(label)
            columns[f"probability_{name}"] = pl.Series(found[:, at])
    if isinstance(loss, Loss) and (loss.output != "identity" or loss.blocks > 1):
        described = distribution_of(schema, loss, outputs)
        predicted = "median" if "median" in described else "mean"
        for name, values in described.items():
            if name != predicted:  # which is the prediction
                parts = zip(schema.target_names, values.reshape(len(values), -1).T, strict=True)
                columns |= {
                    name if values.ndim == 1 else f"{name}_{target}": pl.Series(part)
                    for target, part in parts
                }
    kept: dict[str, pl.Series] = {}
    for series in source.kept if source.kept is not None else ():
        name = series.name
        while name in columns or name in kept:
            name = f"kept_{name}"
        kept[name] = series
    return pl.DataFrame({**kept, **columns})


def _with_gaps(found: pl.DataFrame, rows: Array, source: Source) -> pl.DataFrame:
    """Return predictions of some rows as a table of all rows of the source; kept columns are complete."""
    everything = pl.DataFrame({_ROW: np.arange(len(source))})
    predicted = found.with_columns(pl.Series(_ROW, rows))
    if source.kept is not None:
        names = found.columns[: source.kept.width]
        kept = source.kept.rename(dict(zip(source.kept.columns, names, strict=True)))
        everything = kept.with_columns(everything[_ROW])
        predicted = predicted.drop(names)
    return everything.join(predicted, on=_ROW, how="left", maintain_order="left").select(found.columns)
