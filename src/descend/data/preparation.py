"""From a source to tensors: infer the task, split, infer the columns, fit on the training part, encode.

:func:`prepare` is the path from raw data to what training needs; :mod:`descend.data` lists its steps. New data with
targets take the shorter path of :func:`encode_source`, with the schema that was fitted in training.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from descend.data.category_encoding import Folds
from descend.data.class_weights import class_weighted
from descend.data.columns import Column
from descend.data.constant_targets import refuse_constant_classes, refuse_constant_numbers
from descend.data.fitting import Rows, fit_inputs
from descend.data.label_lists import separator_hint
from descend.data.label_notes import label_notes
from descend.data.labels import classes_of, codes_of
from descend.data.messages import listed, rows_hold
from descend.data.part_weights import check_part_weights
from descend.data.preprocessing import Preprocess
from descend.data.quantiles import ROBUST_CLIP
from descend.data.rare_classes import rare_class_notes
from descend.data.row_numbers import naming
from descend.data.scaling import UNIT
from descend.data.schema import Schema
from descend.data.settings import DataSettings, Decimal
from descend.data.source import PARTS, Array, Source
from descend.data.spellings import spelling_note
from descend.data.split import Split, group_names, split
from descend.data.streaming import mapped
from descend.data.target_scale import with_target_scale
from descend.data.task import Task, check_targets, infer_task, target_numbers
from descend.data.text_cells import table_decimal
from descend.data.torch_datasets import EncodedItems
from descend.errors import DataError
from descend.process import in_fork

__all__ = ["Part", "Prepared", "encode_source", "prepare"]

_BLOCK = 32768  # rows encoded at a time, which bounds the memory of intermediate values


@dataclass(frozen=True, eq=False)
class Part:
    """Rows ready for training or evaluation.

    Args:
        inputs: encoded rows, float32 (n, *input_shape); None if they stay in ``dataset``.
        targets: int64 (n,) for multiclass, float32 (n,) for binary, float32 (n, L) for several labels, float32 (n, T)
            for regression.
        weights: float32 (n,), or None for equal weights.
        rows: the row numbers in the source, int64 (n,).
        dataset: if ``inputs`` is None, the encoded items (input, target) or (input, target, weight); row i of the
            part is item ``rows[i]``.
        stored: whether ``inputs`` are on disk, mapped into memory, and possibly larger than memory.
        balanced: float32 (n,), the weights times those of the classes (``data.class_weights``); None if there are none.
    """

    inputs: Tensor | None
    targets: Tensor
    weights: Tensor | None
    rows: Array
    dataset: Any = None
    stored: bool = False
    balanced: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, eq=False)
class Prepared:
    """Data ready for training: the schema, the preprocessing module, three parts, and notes for the user."""

    schema: Schema
    preprocess: Preprocess
    train: Part
    validation: Part
    test: Part
    notes: tuple[str, ...]

    @property
    def table(self) -> list[dict[str, str]]:
        """Description of the columns, see :meth:`descend.data.schema.Schema.table`."""
        return self.schema.table()


@in_fork
def prepare(source: Source, settings: DataSettings | None = None, seed: int = 0) -> Prepared:
    """Infer the task and the columns, split the rows, fit on the training part, and encode.

    Args:
        source: raw data, from :func:`descend.data.sources.read`.
        settings: the recipe's ``[data]`` section; the defaults if None.
        seed: the run's seed, which determines the split.

    >>> from descend.data.bundled import load_bundled
    >>> prepared = prepare(load_bundled("diabetes"))
    >>> prepared.schema.task, prepared.schema.rows
    ('regression', {'train': 266, 'validation': 66, 'test': 110})

    Raises:
        DataError: the data cannot be used for training as they are; the message names the place and the remedy.
    """
    with naming(source.numbers):
        return _prepared(source, settings or DataSettings(), seed)


def _prepared(source: Source, settings: DataSettings, seed: int) -> Prepared:
    if source.targets is None:
        raise DataError(f"{source.name} has no targets to learn from; specify the target column")
    if source.label_column and not source.target_names:
        raise DataError(f"target {source.label_column!r}: no row has a label; there is nothing to learn")
    targets = check_targets(source.targets, _named_targets(source), absent=source.absent_targets)
    if len(targets) != len(source):
        raise DataError(f"{source.name} has {len(source)} rows but {len(targets)} targets")
    weights = _checked_weights(source.weights, len(source))
    for key, given in (("split", source.split), ("groups", source.groups)):
        if given is not None and len(given) != len(source):
            raise DataError(
                f"data.{key}: expected one label for each of the {len(source)} rows, got {len(given)}"
            )
    decimal = _decimal(source, targets, settings)
    task, why = _task(source, targets, settings, decimal)
    known = targets.reshape(-1) if source.classes is None else source.classes
    several = task == "multi_label"
    classes, dtype = classes_of(known) if task in ("binary", "multiclass", "multi_label") else ((), "")
    codes = codes_of(targets, classes) if classes and not several else None
    groups, ungrouped = (None, 0) if source.groups is None else group_names(source.groups)
    parts = split(
        len(source), codes, task=task, validation=settings.validation, test=settings.test,
        given=source.split, seed=seed, groups=groups,
    )  # fmt: skip
    if codes is not None and source.classes is None:
        refuse_constant_classes(codes, parts.train, classes)
    elif not classes:
        numbers = target_numbers(targets, decimal).reshape(len(targets), -1)
        refuse_constant_numbers(numbers, parts.train, source.target_names)
    absent = () if codes is None else _absent_classes(codes, parts, classes)
    rare = () if codes is None else rare_class_notes(codes, parts, classes)
    columns = targets.shape[1] if targets.ndim == 2 else 1
    outputs = 1 if task == "binary" else len(classes) if classes and not several else columns
    schema = Schema(
        kind=source.kind, task=task, why=why, input_shape=(1,), outputs=outputs,
        target_names=source.target_names, named=source.named, missing=settings.missing,
        separator=settings.separator, encoding=settings.encoding, white=source.white, decimal=decimal,
        classes=classes, label_dtype=dtype,
        scale=settings.scale_name,
        clip=_bound(settings),
        reference=source.reference, name=source.name,
        rows={part: len(getattr(parts, part)) for part in PARTS}, label_column=source.label_column,
        label_separator=settings.label_separator,
    )  # fmt: skip
    schema = with_target_scale(schema, targets, parts.train, weights, settings.target_scale)
    encoded_targets = schema.encode_targets(targets)
    schema, raw, folds = fit_inputs(schema, source, settings, parts.train, weights, encoded_targets, groups)
    schema = dataclasses.replace(schema, fingerprint=source.fingerprint())
    preprocess = Preprocess(schema)
    inputs = _encoded(preprocess, schema, raw, parts, folds, stored=settings.stream)
    if several:
        absent = label_notes(schema, encoded_targets.numpy(), parts.train, declared=settings.task != "auto")
    balanced = class_weighted(settings.class_weights, codes, classes, parts.train, weights, task)
    own = dict.fromkeys(PARTS, weights) | {"train": balanced}
    weight_notes = check_part_weights(own, {part: getattr(parts, part) for part in PARTS}, codes, classes)
    encoded_parts = {
        part: _part(schema, source, inputs.get(part), encoded_targets, own[part], getattr(parts, part))
        for part in PARTS
    }
    if balanced is not weights and balanced is not None:
        of_validation = torch.from_numpy(balanced[parts.validation].astype(np.float32))
        encoded_parts["validation"] = dataclasses.replace(encoded_parts["validation"], balanced=of_validation)
    if settings.stream:
        encoded_parts = {part: dataclasses.replace(one, stored=True) for part, one in encoded_parts.items()}
    alone = (f"{ungrouped} rows have no group; each is a group of its own",) if ungrouped else ()
    hint = "" if several else separator_hint(classes)
    combined = (f"the target: {hint}",) if hint else ()
    notes = (
        *source.notes, *parts.notes, *alone, *combined, *absent, *rare, *weight_notes,
        *_spelling_notes(schema, source), *_column_notes(schema.columns),
    )  # fmt: skip
    train, validation, test = (encoded_parts[part] for part in PARTS)
    return Prepared(schema, preprocess, train, validation, test, notes)


@in_fork
def encode_source(source: Source, schema: Schema, preprocess: Preprocess | None = None) -> Part:
    """Encode new data with targets by a fitted schema, for evaluation.

    Args:
        source: raw data with targets.
        schema: the schema of the trained network.
        preprocess: its preprocessing module; built from the schema if None.

    Raises:
        DataError: columns, classes or shapes do not match the schema.
    """
    if source.targets is None:
        raise DataError(f"{source.name} has no targets to evaluate against; specify the target column")
    if (source.kind == "dataset") != (schema.kind == "dataset"):
        raise DataError(
            f"{source.name} is of kind {source.kind}, but the network was trained on data of kind {schema.kind}"
        )
    with naming(source.numbers):
        targets = schema.encode_targets(
            check_targets(source.targets, _named_targets(source), least=1, absent=source.absent_targets)
        )
    if len(targets) != len(source):
        raise DataError(f"{source.name} has {len(source)} rows but {len(targets)} targets")
    inputs = None
    if source.kind != "dataset":
        matrix = schema.matrix(source)
        with torch.no_grad():
            encode = preprocess or Preprocess(schema)
            blocks = [encode(matrix[at : at + _BLOCK]) for at in range(0, len(matrix), _BLOCK)]
            inputs = torch.cat(blocks)
    with naming(source.numbers):
        weights = _checked_weights(source.weights, len(source))
    if weights is not None and not (weights > 0).any():
        raise DataError(
            "the weights of all rows are 0, so nothing can be measured on them; give some a weight above 0"
        )
    return _part(schema, source, inputs, targets, weights, np.arange(len(source)))


def _named_targets(source: Source) -> tuple[str, ...]:
    """Return the names of the targets for messages."""
    return (source.label_column,) if source.label_column else source.target_names


def _bound(settings: DataSettings) -> float | None:
    """Return the smooth bound of scaled numbers, or None."""
    if settings.scale_name == "robust":
        chosen = settings.scale if isinstance(settings.scale, Mapping) else {}
        return float(chosen.get("clip", ROBUST_CLIP))
    return settings.clip if settings.clip != "none" and settings.scale_name in UNIT else None


def _part(schema: Schema, source: Source, inputs: Tensor | None, targets: Tensor,
          weights: Array | None, rows: Array) -> Part:  # fmt: skip
    dataset = None if source.dataset is None else EncodedItems(source.dataset, schema, weights)
    own = None if weights is None else torch.from_numpy(weights[rows].astype(np.float32))
    return Part(inputs, targets[torch.from_numpy(rows)], own, rows, dataset)


_SMALLEST = 1e-30
"""Weights are scaled if the largest one is below this, or above its inverse."""


def _checked_weights(weights: Array | None, n: int) -> Array | None:
    if weights is None:
        return None
    weights = np.asarray(weights)
    if weights.shape != (n,):
        raise DataError(f"expected one weight for each of the {n} rows, got shape {weights.shape}")
    checked = target_numbers(weights)
    for problem, invalid in (
        ("numbers", np.isnan(checked) & (weights.dtype.kind not in "iuf")),
        ("finite and 0 or more", ~(np.isfinite(checked) & (checked >= 0))),
    ):
        if invalid.any():
            shown = listed({repr(one): one for one in weights[invalid].tolist()}.values(), 3)
            raise DataError(
                f"the weights of rows must be {problem}, but {rows_hold(np.flatnonzero(invalid))} {shown}"
            )
    largest = checked.max(initial=0.0)
    # Only ratios of weights matter; those outside the range of float32, with which networks are trained, are scaled.
    return checked if largest == 0 or _SMALLEST <= largest <= 1 / _SMALLEST else checked / largest


_DIGIT = re.compile(r"\d")


def _decimal(source: Source, targets: Array, settings: DataSettings) -> Decimal:
    """Return the decimal mark of the strings in the data; ``auto`` if none occurs."""
    import polars as pl

    table = source.frame if source.stored is None else source.stored
    if source.decimal != "auto":
        return source.decimal
    strings = []
    if targets.dtype.kind in "OU" and settings.task not in ("classification", "binary", "multiclass"):
        flat = targets.reshape(-1).tolist()
        # Strings without a digit have no decimal mark; other strings are converted by polars.
        if all(isinstance(value, str) for value in flat) and any(map(_DIGIT.search, flat)):
            strings = [pl.Series(", ".join(source.target_names), flat, dtype=pl.String)]
    return table_decimal(pl.DataFrame() if table is None else table, settings, targets=strings)


def _task(source: Source, targets: Array, settings: DataSettings, decimal: Decimal) -> tuple[Task, str]:
    if source.classes is None:
        return infer_task(targets, settings.task, decimal)
    count = len(source.classes)
    if targets.ndim == 2 and count == 2:
        return "multi_label", f"{targets.shape[1]} labels are given"
    if count < 2:
        raise DataError(f"{count} class was given; a classifier needs at least two classes")
    return (
        "binary" if count == 2 and settings.task != "multiclass" else "multiclass",
        f"{count} classes are given",
    )


def _absent_classes(codes: Array, parts: Split, classes: Sequence[object]) -> tuple[str, ...]:
    absent = np.setdiff1d(np.arange(len(classes)), codes[parts.train])
    shown = listed(classes[code] for code in absent)
    return (f"no training row has the class {shown}: it cannot be learned",) if len(absent) else ()


def _encoded(
    preprocess: Preprocess,
    schema: Schema,
    raw: Rows | None,
    parts: Split,
    folds: Folds | None,
    *,
    stored: bool,
) -> dict[str, Tensor]:
    """Encode the rows of each part block by block, so that a table needs no second copy in memory.

    Training rows are encoded out of fold if there are ``folds``.
    If ``stored``, the encoded rows are written to disk and mapped into memory.
    """
    if raw is None:
        return {}
    rows_of = {part: getattr(parts, part) for part in PARTS}
    shapes = {part: (len(rows), *schema.input_shape) for part, rows in rows_of.items()}
    tensors = {
        part: torch.from_numpy(mapped(shape, np.float32)) if stored else torch.empty(shape)
        for part, shape in shapes.items()
    }
    total = sum(map(len, rows_of.values()))
    block = max(1, min(_BLOCK, 2**24 // int(np.prod(schema.input_shape))))
    of_row = np.empty(0) if folds is None else folds.of_row
    own_modules = [
        Preprocess(dataclasses.replace(schema, columns=columns))
        for columns in (() if folds is None else folds.columns)
    ]
    with torch.no_grad():
        for start in range(0, total, block):
            rows = raw(start, start + block)
            encoded = preprocess(rows)
            for fold, module in enumerate(own_modules):
                own = torch.from_numpy(np.flatnonzero(of_row[start : start + block] == fold))
                encoded[own] = module(rows[own])
            if not torch.isfinite(encoded).all():
                raise _not_finite(encoded, preprocess, start)
            for part, numbers in rows_of.items():
                first, last = np.searchsorted(numbers, (start, start + block))
                tensors[part][first:last] = encoded[torch.from_numpy(numbers[first:last] - start)]
    return tensors


def _not_finite(encoded: Tensor, preprocess: Preprocess, start: int) -> DataError:
    invalid = ~torch.isfinite(encoded.flatten(1))
    rows = start + invalid.any(dim=1).nonzero()[:, 0].numpy()
    flags = invalid.any(dim=0).tolist()
    where = listed([name for name, flag in zip(preprocess.names, flags, strict=False) if flag])
    return DataError(
        f"{'column ' + where if where else 'the inputs'}: {rows_hold(rows)} numbers more than 1e37 standard "
        "deviations from the mean of the training rows; correct them or leave them empty"
    )


def _spelling_notes(schema: Schema, source: Source) -> tuple[str, ...]:
    groups = () if source.groups is None else source.groups.tolist()
    of_columns = [
        note
        for column in schema.columns
        for note in spelling_note(f"categories of the column {column.name!r}", column.categories)
    ]
    return (*spelling_note("classes", schema.classes), *spelling_note("groups", groups), *of_columns)


def _column_notes(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(f"column {column.name!r}: {column.note}" for column in columns if column.note)
