"""Columns that settings name, in data that define their own target: bundled data sets, pairs (X, y), arrays, folders.

A table read from a file has its target, weights, groups and split chosen when it is read. Other data come with a target;
here the names that the settings specify are found in them, or refused. A name that does not exist is never ignored.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from descend.data.arrays import labels_of, names_of
from descend.data.frames import take
from descend.data.messages import listed
from descend.data.settings import DataSettings
from descend.data.source import Array, Source
from descend.data.split import part_names
from descend.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["choose_columns"]


def choose_columns(
    source: Source,
    settings: DataSettings,
    targets: tuple[str, ...] | None,
    *,
    strict: bool,
    weights_from: str = "data.weights",
) -> Source:
    """Return the source with the target, weights, groups and split that the settings name.

    Another target than that of the data can be chosen if both are columns of a table with names: the target of the data
    is then one of the features.

    Args:
        source: data that define their own target, or a table that was read with these settings.
        settings: the recipe's ``[data]`` section.
        targets: names of the specified target columns, or None.
        strict: whether names that do not exist are refused; otherwise they are ignored, as for rows to predict.
        weights_from: what names the column of weights, for messages. Default ``data.weights``.

    Raises:
        DataError: a specified name does not exist in the data.

    >>> from descend.data.bundled import load_bundled
    >>> chosen = choose_columns(load_bundled("iris"), DataSettings(), ("petal width (cm)",), strict=True)
    >>> float(chosen.targets[0]), chosen.frame.columns[-1]
    (0.2, 'class')
    """
    if strict and settings.columns and source.kind != "table":
        raise DataError(
            f"data.columns: {source.name} has no columns ({source.kind}); remove {listed(settings.columns, 4)}"
        )
    if targets is not None and targets != source.target_names:
        source = _with_targets(source, targets, strict)
    for key in ("weights", "groups", "split"):
        name = getattr(settings, key)
        if name is not None and getattr(source, key) is None:
            place = weights_from if key == "weights" else f"data.{key}"
            source = _with_column(source, key, name, f"{source.name}: {place}", strict)
    return source


def _with_targets(source: Source, names: tuple[str, ...], strict: bool) -> Source:
    own = source.target_names
    frame = source.frame if source.named else None
    known = [*own, *(frame.columns if frame is not None else ())]
    unknown = [name for name in names if name not in known]
    if frame is None or source.targets is None or unknown:
        if not strict or (source.targets is None and not unknown):
            return source
        raise DataError(_refusal(source, unknown or list(names), known))
    own_columns = source.targets.reshape(len(source), -1).T
    frame = frame.with_columns([_series(name, values) for name, values in zip(own, own_columns, strict=True)])
    features, series = take(frame, list(names), f"{source.name}: target")
    columns = [labels_of(one, ()) for one in series]
    return dataclasses.replace(
        source,
        frame=cast("pl.DataFrame", features),
        targets=columns[0] if len(columns) == 1 else np.column_stack(columns),
        target_names=names,
        grid=None,
        classes=None,
    )


def _series(name: str, values: Array) -> pl.Series:
    import polars as pl

    return pl.Series(name, values.tolist() if values.dtype == object else values, strict=False)


def _refusal(source: Source, names: list[str], known: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names)
    own = ", ".join(repr(name) for name in source.target_names) or "none"
    if source.frame is not None and source.named:
        return f"{source.name}: no column {shown} to predict; {did_you_mean(names[0], known)}"
    return (
        f"{source.name}: no target {shown}: these data define their own target ({own}); leave the target out, "
        "or pass one table that contains all columns"
    )


def _with_column(source: Source, key: str, name: str, place: str, strict: bool) -> Source:
    frame = source.frame if source.named else None
    if frame is None or name not in frame.columns:
        if not strict:
            return source
        known = (
            f"; {did_you_mean(name, frame.columns)}" if frame is not None else "; their columns have no names"
        )
        raise DataError(f"{place}: no column {name!r} in these data{known}")
    features, (series,) = take(frame, [name], place)
    values: Any = names_of(series, ()) if key == "groups" else labels_of(series, ())
    if key == "split":
        values = part_names(values, f"{source.name}: column {name!r}")
    return dataclasses.replace(source, frame=cast("pl.DataFrame", features), **{key: values})
