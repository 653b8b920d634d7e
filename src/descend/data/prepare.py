"""From a source to tensors: task, split, columns, scaling, in that order, fitted on the training part only."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from descend.data.columns import Column, encode, fit_categories, infer
from descend.data.labels import classes_of, codes_of
from descend.data.scaling import SCALES, Preprocess, Scale
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import PARTS, Array, Source
from descend.data.split import Split, split
from descend.data.task import check_targets, infer_task
from descend.data.torch_datasets import EncodedItems, item_input
from descend.data.values import rows_text
from descend.errors import DataError, Problem, RecipeError, did_you_mean

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Part", "Prepared", "encode_source", "prepare"]

_BLOCK = 32768  # rows encoded at a time: bounds the memory of intermediate values

Rows = Callable[[int, int], Tensor]
"""Raw rows from a first to a last (exclusive), as the preprocessing module takes them."""


@dataclass(frozen=True, eq=False)
class Part:
    """Rows ready for training or evaluation.

    Args:
        inputs: encoded rows, float32 (n, *input_shape); None where they stay in ``dataset``.
        targets: int64 (n,) for multiclass, float32 (n,) for binary, float32 (n, T) for regression (standardised).
        weights: float32 (n,), or None for equal weights.
        rows: the rows' numbers in the source, int64 (n,).
        dataset: where ``inputs`` is None: the items, encoded, as (input, target) or (input, target, weight);
            row i of the part is item ``rows[i]``.
    """

    inputs: Tensor | None
    targets: Tensor
    weights: Tensor | None
    rows: Array
    dataset: Any = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Prepared:
    """What training needs: the schema, the preprocessing module, three parts, and notes for people."""

    schema: Schema
    preprocess: Preprocess
    train: Part
    validation: Part
    test: Part
    notes: tuple[str, ...]

    @property
    def table(self) -> list[dict[str, str]]:
        """The columns in words, see :meth:`descend.data.schema.Schema.table`."""
        return self.schema.table()


def prepare(source: Source, settings: DataSettings | None = None, seed: int = 0) -> Prepared:
    """Infer, split, fit and encode.

    Args:
        source: raw data, from :func:`descend.data.sources.read`.
        settings: the recipe's ``[data]``; its defaults if None.
        seed: the run's seed; the split depends on it.

    >>> from descend.data.bundled import bundled
    >>> prepared = prepare(bundled("diabetes"))
    >>> prepared.schema.task, prepared.schema.rows
    ('regression', {'train': 310, 'validation': 66, 'test': 66})

    Raises:
        DataError: the data cannot be learned from as they are; the message says where and what to do.
    """
    settings = settings or DataSettings()
    if source.targets is None:
        raise DataError(f"{source.name} has no targets to learn from; name the target column")
    targets = check_targets(source.targets, source.target_names)
    if len(targets) != len(source):
        raise DataError(f"{source.name} holds {len(source)} rows but {len(targets)} targets")
    weights = _checked_weights(source.weights, len(source))
    task, why = infer_task(targets, settings.task)
    classes, dtype = classes_of(targets) if task in ("binary", "multiclass") else ((), "")
    codes = codes_of(targets, classes) if classes else None
    parts = split(
        len(source), codes, task=task, validation=settings.validation, test=settings.test,
        given=source.split, seed=seed, groups=source.groups,
    )  # fmt: skip
    if codes is not None:
        _check_classes(codes, parts, classes)
    outputs = 1 if task == "binary" else len(classes) or (targets.shape[1] if targets.ndim == 2 else 1)
    schema = Schema(
        kind=source.kind, task=task, why=why, input_shape=(1,), outputs=outputs, target_names=source.target_names,
        named=source.named, missing=tuple(settings.missing), classes=classes, label_dtype=dtype,
        scale=settings.scale, clip=None if settings.clip == "none" else settings.clip,
        reference=source.reference, name=source.name,
        rows={part: len(getattr(parts, part)) for part in PARTS},
    )  # fmt: skip
    if not classes:
        schema = _with_target_scale(schema, targets, parts.train, weights)
    schema, raw = _fit_inputs(schema, source, settings, parts.train, weights)
    schema = dataclasses.replace(schema, fingerprint=source.fingerprint())
    preprocess = Preprocess(schema)
    inputs = _encoded(preprocess, schema, raw, parts)
    encoded_targets = schema.encode_targets(targets)
    own = {part: weights for part in PARTS} | {"train": _class_weights(codes, parts.train, settings, weights)}
    made = {
        part: _part(schema, source, inputs.get(part), encoded_targets, own[part], getattr(parts, part))
        for part in PARTS
    }
    notes = (*source.notes, *parts.notes, *_column_notes(schema.columns))
    return Prepared(schema, preprocess, made["train"], made["validation"], made["test"], notes)


def encode_source(source: Source, schema: Schema, preprocess: Preprocess | None = None) -> Part:
    """New data with targets, encoded by a fitted schema: what evaluation takes.

    Raises:
        DataError: columns, classes or shapes that do not fit the schema.
    """
    if source.targets is None:
        raise DataError(f"{source.name} has no targets to evaluate against; name the target column")
    if (source.kind == "dataset") != (schema.kind == "dataset"):
        raise DataError(
            f"{source.name} is of kind {source.kind}, the network was trained on data of kind {schema.kind}"
        )
    targets = schema.encode_targets(check_targets(source.targets, source.target_names, least=1))
    if len(targets) != len(source):
        raise DataError(f"{source.name} holds {len(source)} rows but {len(targets)} targets")
    inputs = None
    if source.kind != "dataset":
        with torch.no_grad():
            inputs = (preprocess or Preprocess(schema))(schema.matrix(source))
    weights = _checked_weights(source.weights, len(source))
    return _part(schema, source, inputs, targets, weights, np.arange(len(source)))


def _part(schema: Schema, source: Source, inputs: Tensor | None, targets: Tensor,
          weights: Array | None, rows: Array) -> Part:  # fmt: skip
    dataset = None if source.dataset is None else EncodedItems(source.dataset, schema, weights)
    share = None if weights is None else torch.from_numpy(weights[rows].astype(np.float32))
    return Part(inputs, targets[torch.from_numpy(rows)], share, rows, dataset)


def _checked_weights(weights: Array | None, n: int) -> Array | None:
    if weights is None:
        return None
    try:
        found = np.asarray(weights, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise DataError(f"weights must be numbers: {cause}") from cause
    if found.shape != (n,):
        raise DataError(f"one weight for each of the {n} rows was expected, found shape {found.shape}")
    bad = ~(np.isfinite(found) & (found >= 0))
    if bad.any():
        raise DataError(f"weights must be finite and 0 or more; see {rows_text(np.flatnonzero(bad))}")
    return found


def _check_classes(codes: Array, parts: Split, classes: Sequence[object]) -> None:
    seen = np.unique(codes[parts.train])
    if len(seen) < len(classes):
        lost = [classes[code] for code in range(len(classes)) if code not in seen]
        raise DataError(
            f"the training part holds no row of the classes {lost[:5]}; choose another split or remove these rows"
        )


def _with_target_scale(schema: Schema, targets: Array, train: Array, weights: Array | None) -> Schema:
    numbers = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)[train]
    shift, spread = SCALES["standard"](numbers, _positive(weights, train))
    return dataclasses.replace(schema, target_mean=tuple(shift.tolist()), target_scale=tuple(spread.tolist()))


def _positive(weights: Array | None, rows: Array) -> Array | None:
    own = None if weights is None else weights[rows]
    if own is not None and own.sum() <= 0:
        raise DataError("the weights of all training rows are 0; at least one must count")
    return own


def _fit_inputs(
    schema: Schema, source: Source, settings: DataSettings, train: Array, weights: Array | None
) -> tuple[Schema, Rows | None]:
    """The schema with its input side fitted, and the raw rows as the preprocessing module takes them."""
    scale = _scale(settings.scale)
    own = _positive(weights, train)
    if source.kind == "table":
        return _fit_table(schema, source, settings, train, scale, own)
    if source.kind == "dataset":
        return _fit_dataset(schema, source)
    assert source.inputs is not None
    inputs = np.ascontiguousarray(source.inputs)
    schema = dataclasses.replace(schema, input_shape=inputs.shape[1:])
    shift, spread = _fit_images(inputs, train, scale, own) if source.kind == "images" else _fit_entries(
        inputs, train, scale, own
    )  # fmt: skip
    if not (np.isfinite(shift).all() and np.isfinite(spread).all()):
        raise DataError(f"{source.name}: the numbers are too large to be scaled; divide them by a constant")
    schema = dataclasses.replace(schema, shift=tuple(shift.tolist()), spread=tuple(spread.tolist()))
    return schema, lambda start, stop: torch.from_numpy(inputs[start:stop])


def _fit_images(inputs: Array, train: Array, scale: Scale, weights: Array | None) -> tuple[Array, Array]:
    """Shift and spread of each channel, from the counts of the 256 levels in the training images."""
    counts = np.zeros((inputs.shape[1], 256))
    for start in range(0, len(train), _BLOCK // 16):
        rows = train[start : start + _BLOCK // 16]
        own = None
        if weights is not None:
            own = np.repeat(weights[start : start + _BLOCK // 16], inputs[0, 0].size)
        for channel in range(len(counts)):
            counts[channel] += np.bincount(inputs[rows, channel].reshape(-1), weights=own, minlength=256)
    pairs = []
    for own in counts:
        levels = np.flatnonzero(own > 0)
        pairs.append(scale(levels[:, None].astype(np.float64), own[levels]))
    return np.concatenate([shift for shift, _ in pairs]), np.concatenate([spread for _, spread in pairs])


def _fit_entries(inputs: Array, train: Array, scale: Scale, weights: Array | None) -> tuple[Array, Array]:
    """Shift and spread of each entry of a row, or of each channel where a row has three dimensions or more."""
    rows = inputs[train].astype(np.float64)
    if inputs.ndim < 4:
        return scale(rows.reshape(len(rows), -1), weights)
    size = int(np.prod(inputs.shape[2:]))
    by_channel = np.moveaxis(rows, 1, -1).reshape(-1, inputs.shape[1])
    return scale(by_channel, None if weights is None else np.repeat(weights, size))


def _fit_dataset(schema: Schema, source: Source) -> tuple[Schema, None]:
    """Items are taken as the dataset gives them: it owns its transforms."""
    shape = item_input(source.dataset, 0).shape or (1,)
    return dataclasses.replace(schema, input_shape=shape, scale="none", clip=None), None


def _scale(name: str) -> Scale:
    if name not in SCALES:
        raise RecipeError(
            [Problem("data", "scale", f"unknown scale {name!r}", hint=did_you_mean(name, SCALES))]
        )
    return SCALES[name]


def _fit_table(
    schema: Schema, source: Source, settings: DataSettings, train: Array, scale: Scale, weights: Array | None
) -> tuple[Schema, Tensor]:
    assert source.frame is not None
    columns, parsed = infer(source.frame, settings, keep_constant=source.grid is not None)
    columns = fit_categories(columns, parsed, train, settings)
    if not any(column.used for column in columns):
        raise DataError("no column varies within the training rows; there is nothing to learn from")
    columns = _fit_numbers(columns, parsed, train, scale, weights)
    width = sum(len(column.inputs) for column in columns)
    shape = source.grid if source.grid and int(np.prod(source.grid)) == width else (width,)
    schema = dataclasses.replace(schema, columns=tuple(columns), input_shape=shape)
    return schema, lambda start, stop: torch.from_numpy(encode(parsed[start:stop], columns))


def _fit_numbers(
    columns: Sequence[Column], parsed: pl.DataFrame, train: Array, scale: Scale, weights: Array | None
) -> list[Column]:
    """Fill, mean and scale of each column from the training rows, a few columns at a time."""
    fitted = {column.name: column for column in columns}
    numeric = [column for column in columns if column.kind in ("numeric", "date")]
    together = max(1, 2**22 // len(train))
    for start in range(0, len(numeric), together):
        chosen = numeric[start : start + together]
        rows = np.empty((len(train), len(chosen)), order="F")
        for at, column in enumerate(chosen):
            rows[:, at] = parsed[column.name].to_numpy()[train]
            if column.indicator:
                fitted[column.name] = dataclasses.replace(column, fill=_fill(rows[:, at], weights))
        for column, shift, spread in zip(chosen, *scale(rows, weights), strict=True):
            fill = fitted[column.name].fill if column.indicator else float(shift)
            fitted[column.name] = dataclasses.replace(
                column, fill=fill, mean=float(shift), scale=float(spread)
            )
    for column in columns:
        if column.kind == "boolean":
            fitted[column.name] = dataclasses.replace(column, fill=0.5, mean=0.5, scale=0.5)
    return list(fitted.values())


def _fill(values: Array, weights: Array | None) -> float:
    """Put the median of the known values in the place of missing ones, and return it."""
    known = ~np.isnan(values)
    fill = _median(values[known], None if weights is None else weights[known])
    values[~known] = fill
    return fill


def _median(values: Array, weights: Array | None) -> float:
    """The median; with weights, that of the rows repeated as often as their weights say."""
    if weights is None or weights.sum() <= 0:
        return float(np.median(values))
    order = np.argsort(values, kind="stable")
    share = np.cumsum(weights[order])
    half = share[-1] / 2
    low = values[order[np.searchsorted(share, half, side="left")]]
    high = values[order[min(np.searchsorted(share, half, side="right"), len(values) - 1)]]
    return float((low + high) / 2)


def _encoded(preprocess: Preprocess, schema: Schema, raw: Rows | None, parts: Split) -> dict[str, Tensor]:
    """The encoded rows of each part, made block by block, so that a table needs no second copy in memory."""
    if raw is None:
        return {}
    chosen = {part: getattr(parts, part) for part in PARTS}
    made = {part: torch.empty((len(rows), *schema.input_shape)) for part, rows in chosen.items()}
    total = sum(len(rows) for rows in chosen.values())
    block = max(1, min(_BLOCK, 2**24 // int(np.prod(schema.input_shape))))
    with torch.no_grad():
        for start in range(0, total, block):
            encoded = preprocess(raw(start, start + block))
            for part, rows in chosen.items():
                first, last = np.searchsorted(rows, (start, start + block))
                made[part][first:last] = encoded[torch.from_numpy(rows[first:last] - start)]
    return made


def _class_weights(
    codes: Array | None, train: Array, settings: DataSettings, weights: Array | None
) -> Array | None:
    if settings.class_weights == "none" or codes is None:
        return weights
    own = np.ones(len(codes)) if weights is None else weights
    mass = np.bincount(codes[train], weights=own[train])
    return own * (mass.sum() / (len(mass) * np.maximum(mass, np.finfo(np.float64).tiny)))[codes]


def _column_notes(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(f"column {column.name!r}: {column.note}" for column in columns if column.note)
