"""From a source to tensors: task, split, columns, scaling, in that order; fitted on the training part."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from descend.data.columns import Column
from descend.data.fitting import Rows, fit_inputs, positive
from descend.data.labels import classes_of, codes_of
from descend.data.messages import listed, rows_hold, rows_text
from descend.data.preprocessing import Preprocess
from descend.data.scaling import UNIT, standard
from descend.data.schema import Schema
from descend.data.settings import DataSettings
from descend.data.source import PARTS, Array, Source
from descend.data.split import Split, split
from descend.data.streaming import mapped
from descend.data.task import Task, check_targets, infer_task
from descend.data.torch_datasets import EncodedItems
from descend.errors import DataError

__all__ = ["Part", "Prepared", "encode_source", "prepare"]

_BLOCK = 32768  # rows encoded at a time: bounds the memory of intermediate values


@dataclass(frozen=True, eq=False)
class Part:
    """Rows ready for training or evaluation.

    Args:
        inputs: encoded rows, float32 (n, *input_shape); None where they stay in ``dataset``.
        targets: int64 (n,) for multiclass, float32 (n,) for binary, float32 (n, T), standardised, for
            regression.
        weights: float32 (n,), or None for equal weights.
        rows: the rows' numbers in the source, int64 (n,).
        stored: whether ``inputs`` lie on disk, mapped into memory, and may be larger than it.
        dataset: where ``inputs`` is None: the items, encoded, as (input, target) or (input, target, weight);
            row i of the part is item ``rows[i]``.
    """

    inputs: Tensor | None
    targets: Tensor
    weights: Tensor | None
    rows: Array
    dataset: Any = None
    stored: bool = False

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
        source: raw data, from :func:`descend.data.reader.read`.
        settings: the recipe's ``[data]``; its defaults if None.
        seed: the run's seed; the split depends on it.

    >>> from descend.data.bundled import load_bundled
    >>> prepared = prepare(load_bundled("diabetes"))
    >>> prepared.schema.task, prepared.schema.rows
    ('regression', {'train': 266, 'validation': 66, 'test': 110})

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
    for key, given in (("split", source.split), ("groups", source.groups)):
        if given is not None and len(given) != len(source):
            raise DataError(
                f"data.{key}: one label for each of the {len(source)} rows was expected, found {len(given)}"
            )
    task, why = _task(source, targets, settings)
    known = targets if source.classes is None else source.classes
    classes, dtype = classes_of(known) if task in ("binary", "multiclass") else ((), "")
    codes = codes_of(targets, classes) if classes else None
    parts = split(
        len(source), codes, task=task, validation=settings.validation, test=settings.test,
        given=source.split, seed=seed, groups=None if source.groups is None else source.groups.astype(str),
    )  # fmt: skip
    unseen = () if codes is None else _unseen(codes, parts, classes)
    outputs = 1 if task == "binary" else len(classes) or (targets.shape[1] if targets.ndim == 2 else 1)
    schema = Schema(
        kind=source.kind, task=task, why=why, input_shape=(1,), outputs=outputs,
        target_names=source.target_names, named=source.named, missing=tuple(settings.missing),
        classes=classes, label_dtype=dtype,
        scale=settings.scale_name,
        clip=settings.clip if settings.clip != "none" and settings.scale_name in UNIT else None,
        reference=source.reference, name=source.name,
        rows={part: len(getattr(parts, part)) for part in PARTS},
    )  # fmt: skip
    if not classes:
        schema = _with_target_scale(schema, targets, parts.train, weights)
    schema, raw = fit_inputs(schema, source, settings, parts.train, weights)
    schema = dataclasses.replace(schema, fingerprint=source.fingerprint())
    preprocess = Preprocess(schema)
    inputs = _encoded(preprocess, schema, raw, parts, stored=settings.stream)
    encoded_targets = schema.encode_targets(targets)
    own = dict.fromkeys(PARTS, weights) | {"train": _class_weights(codes, parts.train, settings, weights)}
    made = {
        part: _part(schema, source, inputs.get(part), encoded_targets, own[part], getattr(parts, part))
        for part in PARTS
    }
    if settings.stream:
        made = {part: dataclasses.replace(one, stored=True) for part, one in made.items()}
    notes = (*source.notes, *parts.notes, *unseen, *_column_notes(schema.columns))
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
        matrix = schema.matrix(source)
        with torch.no_grad():
            encode = preprocess or Preprocess(schema)
            blocks = [encode(matrix[at : at + _BLOCK]) for at in range(0, len(matrix), _BLOCK)]
            inputs = torch.cat(blocks)
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


def _task(source: Source, targets: Array, settings: DataSettings) -> tuple[Task, str]:
    if source.classes is None:
        return infer_task(targets, settings.task)
    count = len(source.classes)
    if count < 2:
        raise DataError(f"{count} class was named; at least two classes are needed to tell apart")
    return (
        "binary" if count == 2 and settings.task != "multiclass" else "multiclass",
        f"{count} classes are named",
    )


def _unseen(codes: Array, parts: Split, classes: Sequence[object]) -> tuple[str, ...]:
    lost = np.setdiff1d(np.arange(len(classes)), codes[parts.train])
    shown = listed(classes[code] for code in lost)
    return (f"no training row has the class {shown}: it cannot be learned",) if len(lost) else ()


def _with_target_scale(schema: Schema, targets: Array, train: Array, weights: Array | None) -> Schema:
    numbers = np.asarray(targets, dtype=np.float64).reshape(len(targets), -1)[train]
    shift, spread = standard(numbers, positive(weights, train))
    return dataclasses.replace(schema, target_mean=tuple(shift.tolist()), target_scale=tuple(spread.tolist()))


def _encoded(
    preprocess: Preprocess, schema: Schema, raw: Rows | None, parts: Split, *, stored: bool
) -> dict[str, Tensor]:
    """The encoded rows of each part, made block by block, so that a table needs no second copy in memory.

    Where they are to be ``stored`` they lie on disk, and need no memory of their own.
    """
    if raw is None:
        return {}
    chosen = {part: getattr(parts, part) for part in PARTS}
    shapes = {part: (len(rows), *schema.input_shape) for part, rows in chosen.items()}
    made = {
        part: torch.from_numpy(mapped(shape, np.float32)) if stored else torch.empty(shape)
        for part, shape in shapes.items()
    }
    total = sum(map(len, chosen.values()))
    block = max(1, min(_BLOCK, 2**24 // int(np.prod(schema.input_shape))))
    with torch.no_grad():
        for start in range(0, total, block):
            encoded = preprocess(raw(start, start + block))
            if not torch.isfinite(encoded).all():
                raise _too_far(encoded, preprocess, start)
            for part, rows in chosen.items():
                first, last = np.searchsorted(rows, (start, start + block))
                made[part][first:last] = encoded[torch.from_numpy(rows[first:last] - start)]
    return made


def _too_far(encoded: Tensor, preprocess: Preprocess, start: int) -> DataError:
    bad = ~torch.isfinite(encoded.flatten(1))
    rows = start + bad.any(dim=1).nonzero()[:, 0].numpy()
    where = listed(
        [name for name, odd in zip(preprocess.names, bad.any(dim=0).tolist(), strict=False) if odd]
    )
    return DataError(
        f"{'column ' + where if where else 'the inputs'}: {rows_hold(rows)} numbers more than 1e37 standard "
        "deviations from those of training; correct them or leave them empty"
    )


def _class_weights(
    codes: Array | None, train: Array, settings: DataSettings, weights: Array | None
) -> Array | None:
    if settings.class_weights == "none" or codes is None:
        return weights
    own = np.ones(len(codes)) if weights is None else weights
    mass = np.bincount(codes[train], weights=own[train])
    factor = np.divide(mass.sum() / len(mass), mass, out=np.zeros_like(mass), where=mass > 0)
    balanced: Array = own * factor[codes]
    return balanced


def _column_notes(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple(f"column {column.name!r}: {column.note}" for column in columns if column.note)
