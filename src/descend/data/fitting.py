"""Fitting of the inputs on the training rows: categories, fill values, scales, rotations."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from descend.data.category_encoding import Folds, fit_effects
from descend.data.column import NUMBERS
from descend.data.columns import Column, infer, refuse_extreme
from descend.data.date_parts import phases
from descend.data.date_reading import NUMBER
from descend.data.decorrelation import LARGEST_SIDE, ROTATIONS, STANDARDIZE, Rotation
from descend.data.encoding import StoredColumns, encode, fit_categories
from descend.data.messages import raise_all
from descend.data.quantiles import QUANTILES, quantiles_of
from descend.data.scaling import ELEMENTWISE, OF_TABLES, SCALES, Scale
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import Array, Source
from descend.data.streaming import StoredTable
from descend.data.text import fit_texts
from descend.data.torch_datasets import item_input
from descend.errors import DataError, Problem, RecipeError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Rows", "fit_inputs", "row_weights"]

_BLOCK = 2048  # images whose pixel levels are counted at a time
Rows = Callable[[int, int], Tensor]
"""A function (start, stop) that returns raw rows as the preprocessing module takes them; stop is exclusive."""


def fit_inputs(
    schema: Schema,
    source: Source,
    settings: DataSettings,
    train: Array,
    weights: Array | None,
    targets: Tensor,
    groups: Array | None = None,
) -> tuple[Schema, Rows | None, Folds | None]:
    """Fit the inputs.

    Args:
        schema: the schema with everything but the inputs.
        source: the raw data.
        settings: the settings of the data.
        train: numbers of the training rows.
        weights: a weight for each row of the source, or None.
        targets: encoded targets of all rows, for encodings that depend on them.
        groups: the group of each row of the source, or None.

    Returns:
        The completed schema; the raw rows as the preprocessing module takes them, None for a torch ``Dataset``, whose
        items are loaded later; and how training rows are encoded out of fold, None if they are encoded as all others.

    Raises:
        DataError: no column varies, numbers are too large, or all weights are 0.
        RecipeError: the scale is unknown or does not fit the data.
    """
    scale = _ScaleChoice.of(settings)
    own = row_weights(weights, train)
    if source.kind == "table":
        of_train = None if groups is None else groups[train]
        return _fit_table(schema, source, settings, train, scale, own, targets, of_train)
    if scale.name in OF_TABLES and source.kind != "dataset":
        message = f"'{scale.name}' scales the columns of a table, and these data are of kind '{source.kind}'"
        raise RecipeError([Problem("data", "scale", message, "use 'standard'")])
    if source.kind == "dataset":
        return (*_fit_dataset(schema, source, scale), None)
    assert source.inputs is not None
    inputs = np.ascontiguousarray(source.inputs)
    schema = dataclasses.replace(schema, input_shape=inputs.shape[1:])
    if scale.rotate is not None:
        scale.check_size(int(np.prod(inputs.shape[1:])), "entries per row")
    fit = _fit_images if source.kind == "images" else _fit_entries
    shift, divisor = fit(inputs, train, scale.elementwise, own)
    if not (np.isfinite(shift).all() and np.isfinite(divisor).all()):
        raise DataError(f"{source.name}: the numbers are too large to be scaled; divide them by a constant")
    schema = dataclasses.replace(schema, shift=tuple(shift.tolist()), spread=tuple(divisor.tolist()))
    if scale.rotate is not None:
        per_channel = (
            (len(shift), *[1] * (inputs.ndim - 2)) if len(shift) == inputs.shape[1] else inputs.shape[1:]
        )
        scaled = inputs[train].astype(np.float32)
        scaled -= shift.reshape(per_channel).astype(np.float32)
        scaled /= divisor.reshape(per_channel).astype(np.float32)
        rotation = scale.rotation(scaled.reshape(len(train), -1), own)
        schema = dataclasses.replace(schema, rotation=rotation)
    return schema, lambda start, stop: torch.from_numpy(inputs[start:stop]), None


@dataclass(frozen=True)
class _ScaleChoice:
    """The configured scale: an elementwise scale and, for some scales, a rotation of all inputs after it."""

    name: str
    elementwise: Scale
    rotate: Callable[..., tuple[Array, Array, Array]] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, settings: DataSettings) -> _ScaleChoice:
        name = settings.scale_name
        options = {} if isinstance(settings.scale, str) else {**settings.scale}
        options.pop("name", None)
        if name not in SCALES:
            hint = did_you_mean(name, SCALES)
            raise RecipeError([Problem("data", "scale", f"unknown scale {name!r}", hint=hint)])
        if name in ELEMENTWISE:
            return cls(name, ELEMENTWISE[name], options=options)
        if settings.stream:
            message = f"'{name}' needs all inputs of all rows in memory, which data.stream avoids"
            raise RecipeError([Problem("data", "scale", message, f"one of: {', '.join(ELEMENTWISE)}")])
        first = "standard" if options.pop("standardize", STANDARDIZE) else "center"
        return cls(name, ELEMENTWISE[first], ROTATIONS[name], options)

    def check_size(self, size: int, what: str) -> None:
        """Refuse a matrix that would be too large to be stored in the schema."""
        if size > LARGEST_SIDE:
            message = f"'{self.name}' supports at most {LARGEST_SIDE} inputs, got {size:,} {what}"
            hint = f"one of: {', '.join(ELEMENTWISE)}; or smaller images (data.image_size)"
            raise RecipeError([Problem("data", "scale", message, hint)])

    def rotation(self, rows: Array, weights: Array | None) -> Rotation:
        """Fit the rotation on training rows (n, d), after the elementwise scale."""
        assert self.rotate is not None
        center, _, matrix = self.rotate(rows, weights, standardize=False, **self.options)
        return Rotation.of(center, matrix)


def _fit_images(inputs: Array, train: Array, scale: Scale, weights: Array | None) -> tuple[Array, Array]:
    """Fit shift and divisor of each channel, from the counts of the 256 levels in the training images."""
    counts = np.zeros((inputs.shape[1], 256))
    for start in range(0, len(train), _BLOCK):
        rows = train[start : start + _BLOCK]
        own = None
        if weights is not None:
            own = np.repeat(weights[start : start + _BLOCK], inputs[0, 0].size)
        for channel in range(len(counts)):
            counts[channel] += np.bincount(inputs[rows, channel].reshape(-1), weights=own, minlength=256)
    pairs = []
    for own in counts:
        levels = np.flatnonzero(own > 0)
        pairs.append(scale(levels[:, None].astype(np.float64), own[levels]))
    return np.concatenate([shift for shift, _ in pairs]), np.concatenate([divisor for _, divisor in pairs])


def _fit_entries(inputs: Array, train: Array, scale: Scale, weights: Array | None) -> tuple[Array, Array]:
    """Fit shift and divisor of each entry of a row; of each channel if a row has three dimensions or more."""
    rows = inputs[train].astype(np.float64)
    if inputs.ndim < 4:
        return scale(rows.reshape(len(rows), -1), weights)
    size = int(np.prod(inputs.shape[2:]))
    by_channel = np.moveaxis(rows, 1, -1).reshape(-1, inputs.shape[1])
    return scale(by_channel, None if weights is None else np.repeat(weights, size))


def _fit_dataset(schema: Schema, source: Source, scale: _ScaleChoice) -> tuple[Schema, None]:
    """Return the schema for items that are used as the dataset returns them: it owns its transforms."""
    if scale.name not in ("standard", "none"):
        message = f"'{scale.name}' needs rows in memory; the items of a torch Dataset are used as they are"
        raise RecipeError(
            [Problem("data", "scale", message, "pass the data as arrays, or scale them in the Dataset")]
        )
    shape = item_input(source.dataset, 0).shape or (1,)
    return dataclasses.replace(schema, input_shape=shape, scale="none", clip=None), None


def _fit_table(
    schema: Schema,
    source: Source,
    settings: DataSettings,
    train: Array,
    scale: _ScaleChoice,
    weights: Array | None,
    targets: Tensor,
    groups: Array | None,
) -> tuple[Schema, Rows, Folds | None]:
    table = source.frame if source.stored is None else source.stored
    assert table is not None
    parsed: pl.DataFrame | StoredColumns
    settings = dataclasses.replace(settings, decimal=schema.decimal)
    columns, parsed = infer(table, settings, keep_constant=source.grid is not None)
    if isinstance(table, StoredTable):
        parsed = StoredColumns(table, columns, settings.missing, schema.decimal)
    columns = fit_categories(columns, parsed, train, settings)
    columns = fit_texts(columns, parsed, train, settings)
    kept = table.columns if source.grid is not None else settings.columns
    columns = _fit_numbers(columns, parsed, train, scale.elementwise, weights, kept=kept)
    if scale.name == "quantile":
        columns = _fit_quantiles(
            columns, parsed, train, weights, int(scale.options.get("quantiles", QUANTILES))
        )
    columns = _fit_parts(columns, parsed, train, settings)
    _refuse_extremes(columns, parsed)
    columns, folds = fit_effects(
        columns,
        lambda column: encode(parsed[column.name].to_frame(), [column])[:, 0],
        train,
        len(targets),
        settings,
        indicators(schema, targets[torch.from_numpy(train)]),
        weights,
        groups,
    )
    rotation = None if scale.rotate is None else _rotation(columns, parsed, train, scale, weights)
    width = sum(len(column.inputs) for column in columns)
    shape = source.grid if source.grid and int(np.prod(source.grid)) == width else (width,)
    schema = dataclasses.replace(schema, columns=tuple(columns), input_shape=shape, rotation=rotation)
    return schema, lambda start, stop: torch.from_numpy(encode(parsed[start:stop], columns)), folds


def _rotation(
    columns: Sequence[Column],
    parsed: pl.DataFrame | StoredColumns,
    train: Array,
    scale: _ScaleChoice,
    weights: Array | None,
) -> Rotation | None:
    """Fit the rotation of a table's numeric columns; None if it has none."""
    numbers = [column for column in columns if column.has_number]
    scale.check_size(len(numbers), "numeric columns")
    if not numbers:
        return None
    rows = np.empty((len(train), len(numbers)))
    for at, column in enumerate(numbers):
        values = parsed[column.name].to_numpy()[train]
        rows[:, at] = (np.where(np.isnan(values), column.fill, values) - column.mean) / column.scale
    return scale.rotation(rows, weights)


def _refuse_extremes(columns: Sequence[Column], parsed: pl.DataFrame | StoredColumns) -> None:
    problems = []
    for column in columns:
        if column.kind in NUMBERS:
            try:
                refuse_extreme(parsed[column.name], column)
            except DataError as problem:
                problems.append(str(problem))
    raise_all(problems)


def _fit_numbers(
    columns: Sequence[Column],
    parsed: pl.DataFrame | StoredColumns,
    train: Array,
    scale: Scale,
    weights: Array | None,
    *,
    kept: Collection[str],
) -> list[Column]:
    """Fit fill, mean and scale of each column on the training rows, a few columns at a time.

    A column that is constant in these rows has no scale of its own. It is not used, unless it must be ``kept`` (a
    pixel, or a column whose kind is declared): it then gets the mean scale of the others, so that a different value
    in a new row is not an outlier.
    """
    fitted = {column.name: column for column in columns}
    numeric = [column for column in columns if column.kind in NUMBERS]
    constants: dict[str, float] = {}
    at_a_time = max(1, 2**22 // len(train))
    for start in range(0, len(numeric), at_a_time):
        chosen = numeric[start : start + at_a_time]
        rows = np.empty((len(train), len(chosen)), order="F")
        fills = []
        for at, column in enumerate(chosen):
            rows[:, at] = parsed[column.name].to_numpy()[train]
            fills.append(_fill(rows[:, at], weights) if column.indicator else None)
        constant = rows.min(axis=0) == rows.max(axis=0)
        for at, (shift, divisor) in enumerate(zip(*scale(rows, weights), strict=True)):
            column = chosen[at]
            median = fills[at]
            fill = float(shift) if median is None else median
            fitted[column.name] = dataclasses.replace(
                column, fill=fill, mean=float(shift), scale=float(divisor)
            )
            if constant[at] and median is None:
                constants[column.name] = float(rows[0, at])
    own = [fitted[column.name].scale for column in numeric if column.name not in constants]
    for name, value in constants.items():
        column = fitted[name]
        note = f"always {value:g} in the training rows; not used"
        fitted[name] = (
            dataclasses.replace(column, scale=float(np.mean(own)) if own else 1.0)
            if name in kept
            else dataclasses.replace(column, kind="constant", note=note, fill=0.0, mean=0.0, scale=1.0)
        )
    for column in columns:
        if column.kind == "boolean":
            fitted[column.name] = dataclasses.replace(column, fill=0.5, mean=0.5, scale=0.5)
    if not any(column.used for column in fitted.values()):
        raise DataError(
            "no column varies within the "
            + (f"{len(train)} training rows" if len(train) > 1 else "only training row")
            + "; there is nothing to learn from"
        )
    return list(fitted.values())


def _fit_quantiles(
    columns: Sequence[Column],
    parsed: pl.DataFrame | StoredColumns,
    train: Array,
    weights: Array | None,
    count: int,
) -> list[Column]:
    """Fit the quantiles of each column on the training rows in which it is not missing."""
    fitted = []
    for column in columns:
        if column.has_number:
            values = parsed[column.name].to_numpy()[train]
            known = ~np.isnan(values)
            scaled = (values[known] - column.mean) / column.scale
            shares = np.linspace(0.0, 1.0, max(2, min(count, len(scaled))))
            own = quantiles_of(scaled[:, None], shares, None if weights is None else weights[known])[:, 0]
            varies = own[0] < own[-1]
            # Interpolation may round quantiles to decreasing ones.
            own = np.maximum.accumulate(own)
            column = dataclasses.replace(column, quantiles=tuple(own.tolist()) if varies else ())
        fitted.append(column)
    return fitted


def _fit_parts(
    columns: Sequence[Column], parsed: pl.DataFrame | StoredColumns, train: Array, settings: DataSettings
) -> list[Column]:
    """Keep the cyclic parts of dates and times that vary in the training rows, or those that the settings name."""
    fitted = []
    for column in columns:
        choice = settings.columns.get(column.name)
        if column.cycles and not (isinstance(choice, Mapping) and "parts" in choice):
            values = parsed[column.name].to_numpy()[train]
            days = torch.from_numpy(values[~np.isnan(values)])
            positions = phases(days, column.cycles)
            varies = (positions.min(dim=0).values < positions.max(dim=0).values).tolist()
            varying = [part for part, one in zip(column.cycles, varies, strict=True) if one]
            column = dataclasses.replace(column, parts=(NUMBER, *varying))
        fitted.append(column)
    return fitted


def _fill(values: Array, weights: Array | None) -> float:
    """Replace missing values in place by the median of the known ones, and return the median."""
    known = ~np.isnan(values)
    fill = _median(values[known], None if weights is None else weights[known])
    values[~known] = fill
    return fill


def _median(values: Array, weights: Array | None) -> float:
    """Return the median; with weights, the median of the rows repeated according to their weights."""
    if weights is None or weights.sum() <= 0:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    half = share[-1] / 2
    low = values[order[np.searchsorted(share, half, side="left")]]
    high = values[order[min(np.searchsorted(share, half, side="right"), len(values) - 1)]]
    return float((low + high) / 2)


def indicators(schema: Schema, targets: Tensor) -> Array:
    """Return encoded targets as numbers (n, K): those of a regression, or an indicator of each class or label.

    >>> iris = Schema("table", "multiclass", "", (1,), 3, ("y",), classes=("a", "b", "c"), label_dtype="<U1")
    >>> indicators(iris, torch.tensor([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if schema.task == "multiclass":
        targets = torch.nn.functional.one_hot(targets, len(schema.classes))
    return targets.reshape(len(targets), -1).double().numpy()


def row_weights(weights: Array | None, rows: Array) -> Array | None:
    """Return the weights of some rows, or None.

    Raises:
        DataError: all of them are 0.
    """
    own = None if weights is None else weights[rows]
    if own is not None and own.sum() <= 0:
        raise DataError("the weights of all training rows are 0; at least one must be positive")
    return own
