"""Modules that encode raw rows for the network and decode the network's outputs, built from a schema alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from descend.data.columns import Column
from descend.data.date_parts import cyclic_inputs
from descend.data.decorrelation import Rotation
from descend.data.quantiles import NormalMap
from descend.data.schema import Form, Schema
from descend.data.target_units import TargetInverse

__all__ = ["Postprocess", "Preprocess"]


class Preprocess(nn.Module):
    """Encode raw rows as network inputs; built from a schema alone.

    **Tables**, float64 (n, C) to float32 (n, d). Missing numbers are replaced by the column's fill value. Numbers are
    scaled, v = (x - mean) / scale, mapped to normal numbers where a column has quantiles
    (:class:`descend.data.quantiles.NormalMap`), rotated if the schema has a rotation, and compressed,
    v / sqrt(1 + (v / clip)^2). Booleans become -1 and 1 (0 if missing), a category becomes a one-hot block, an ordered one a
    thermometer block (:mod:`descend.data.ordered`), all zeros if missing or unseen. Mean targets and ranks of categories
    are looked up (:mod:`descend.data.category_encoding`), 0 if missing or unseen. 0/1 indicators of missing values follow.
    Numbers are centered in float64, so that a large offset costs no precision. A part of a date or time becomes
    sine and cosine of its phase (:mod:`descend.data.date_parts`), not scaled; both are 0 if the date is missing. The indices
    of a text's n-grams are unchanged (0 if the text is missing); the network's first layer,
    :class:`descend.nn.TextEmbedding`, looks them up. The order of the inputs is numbers and booleans, parts of dates,
    categories, looked-up inputs, indicators, texts; see ``names``. A rotation applies to the numbers only.

    **Images**, uint8 (n, channels, height, width), and **tensors**, float32 (n, ...): (x - shift) / spread
    in float32, with one pair for each channel of images, and for each entry or channel of tensors; then the
    rotation of all entries of a row, in float64, so that the result hardly depends on the other rows of the batch.

    ``numbers`` tells which of a table's inputs are numbers, ``columns`` the used column of each input, and ``indicators`` the
    input that is 1 where a column is missing, by the column.

    All operations can be exported by ``torch.export`` and to ONNX with any number of rows, and process each row
    independently.

    Args:
        schema: the fitted schema.

    >>> table = Schema("table", "binary", "", (2,), 1, ("y",), classes=(0, 1), label_dtype="int64",
    ...     columns=(Column("age", "numeric", indicator=True, fill=3.0, mean=1.0, scale=2.0),))
    >>> Preprocess(table)(torch.tensor([[5.0], [float("nan")]], dtype=torch.float64)).tolist()
    [[2.0, 0.0], [1.0, 1.0]]
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.names: tuple[str, ...] = ()
        self.numbers: tuple[bool, ...] = ()
        self.columns: tuple[int, ...] = ()
        self.indicators: dict[int, int] = {}
        self.rows: nn.Module
        if schema.kind == "table":
            self.rows = _TableRows(schema.used, schema.clip, schema.input_shape, schema.rotation)
            if schema.scale in ("pca", "whiten"):
                self.rows.name_components()
            self.names = self.rows.names
            self.columns = self.rows.owners
            self.indicators = self.rows.indicators
            self.numbers = tuple(at in self.rows.rotatable for at in range(len(self.names)))
        else:
            self.rows = _ArrayRows(schema)

    def forward(self, rows: Tensor) -> Tensor:
        """Return network inputs, float32, one row for each raw row."""
        encoded: Tensor = self.rows(rows)
        return encoded


class _TableRows(nn.Module):
    """Encoding of tables.

    The buffers are exported by their names: indices of the ``numeric`` columns, of the column of each ``cyclic`` input,
    of the ``source`` column and ``code`` of each one-hot input (``steps`` is 1 for those of ordered columns), and of the
    columns with indicators (``gap``); ``looked``, the column of each input that is looked up in the list ``effect``, where
    its numbers begin at ``start``, and the place after them, ``other``, of missing and unseen categories;
    ``fill``, ``mean``, ``scale`` and ``bound`` of the numbers; ``center`` and matrix
    (``turn``) of the rotation.
    """

    numeric: Tensor
    cyclic: Tensor
    fill: Tensor
    mean: Tensor
    scale: Tensor
    bound: Tensor
    source: Tensor
    code: Tensor
    steps: Tensor
    gap: Tensor
    looked: Tensor
    start: Tensor
    other: Tensor
    effect: Tensor
    center: Tensor
    turn: Tensor

    def __init__(
        self,
        columns: tuple[Column, ...],
        clip: float | None,
        shape: tuple[int, ...],
        rotation: Rotation | None,
    ) -> None:
        super().__init__()
        used = columns
        columns = tuple(column for column in used if column.text is None)
        texts = _placed_texts(used)
        numeric = [
            (at, column) for at, column in enumerate(columns) if column.kind == "boolean" or column.has_number
        ]
        self.dates = [(at, column.cycles) for at, column in enumerate(columns) if column.cycles]
        cyclic = [(at, name) for at, column in enumerate(columns) for name in column.cyclic_inputs]
        onehot = [
            (at, code, column.inputs[code])
            for at, column in enumerate(columns)
            if column.kind == "categorical"
            for code in range(len(column.blocks))
        ]
        effects = [(at, name) for at, column in enumerate(columns) for name in column.effect_names]
        self.ordered = any(column.ordered for column in columns)
        placed = [*enumerate(columns), *texts]
        indicators = [(at, column.inputs[-1]) for at, column in placed if column.indicator]
        cells = [(at, name) for at, column in texts for name in column.cell_names]
        self.text_start = len(columns) if texts else None
        self.names = (
            *(column.name for _, column in numeric),
            *(name for _, name in cyclic),
            *(name for *_, name in onehot),
            *(name for _, name in effects),
            *(name for _, name in indicators),
            *(name for _, name in cells),
        )  # fmt: skip
        number_of = {at: used.index(column) for at, column in placed}
        places = [
            *(at for at, _ in numeric),
            *(at for at, _ in cyclic),
            *(at for at, *_ in onehot),
            *(at for at, _ in effects),
            *(at for at, _ in indicators),
            *(at for at, _ in cells),
        ]
        self.owners = tuple(number_of[at] for at in places)
        first = len(numeric) + len(cyclic) + len(onehot) + len(effects)
        self.indicators = {number_of[at]: first + place for place, (at, _) in enumerate(indicators)}
        self.shape = shape
        self.clipped = clip is not None
        limit = [float("inf") if clip is None or column.kind == "boolean" else clip for _, column in numeric]
        indices = {
            "numeric": [at for at, _ in numeric],
            "cyclic": [at for at, _ in cyclic],
            "source": [at for at, *_ in onehot],
            "gap": [at for at, _ in indicators],
        }
        numbers = {
            "fill": [column.fill for _, column in numeric],
            "mean": [column.mean for _, column in numeric],
            "scale": [column.scale for _, column in numeric],
            "bound": limit,
            "code": [code for _, code, _ in onehot],
        }
        if self.ordered:
            steps = torch.tensor([float(columns[at].ordered) for at, *_ in onehot])
            self.register_buffer("steps", steps, persistent=False)
        self.looked_up = bool(effects)
        if self.looked_up:
            # One list of numbers holds, for each input, those of the categories and a last one, 0, for all others.
            tables = [
                (*each, 0.0)
                for column in columns
                if column.effect_names
                for each in zip(*column.effects, strict=True)
            ]
            sizes = [len(table) for table in tables]
            indices |= {
                "looked": [at for at, _ in effects],
                "start": np.cumsum([0, *sizes])[:-1].tolist(),
                "other": [size - 1 for size in sizes],
            }
            numbers["effect"] = [number for table in tables for number in table]
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(index, dtype=torch.int64), persistent=False)
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        quantiles = [column.quantiles for _, column in numeric]
        self.normal = NormalMap(quantiles) if any(quantiles) else None
        self.rotatable = [at for at, (_, column) in enumerate(numeric) if column.kind != "boolean"]
        self.rotated = rotation is not None
        if rotation is not None:
            # Booleans are among the numeric inputs; the matrix leaves them unchanged.
            center, matrix = np.zeros(len(numeric)), np.eye(len(numeric))
            center[self.rotatable] = rotation.center
            matrix[np.ix_(self.rotatable, self.rotatable)] = rotation.matrix
            self.register_buffer("center", torch.from_numpy(center), persistent=False)
            self.register_buffer("turn", torch.from_numpy(matrix), persistent=False)

    def name_components(self) -> None:
        """Name the rotated inputs "component 1", "component 2", ..., because they mix the columns."""
        number = {at: count for count, at in enumerate(self.rotatable, start=1)}
        self.names = tuple(
            f"component {number[at]}" if at in number else name for at, name in enumerate(self.names)
        )

    def forward(self, rows: Tensor) -> Tensor:
        blocks = []
        if len(self.numeric):
            values = rows.index_select(1, self.numeric)
            values = torch.where(torch.isnan(values), self.fill, values)
            values = (values - self.mean) / self.scale
            if self.normal is not None:
                values = self.normal(values)
            if self.rotated:
                values = (values - self.center) @ self.turn
            if self.clipped:
                ratio = values / self.bound
                values = values / torch.sqrt(1.0 + ratio * ratio)
            blocks.append(values.to(torch.float32))
        if self.dates:
            blocks += [cyclic_inputs(rows[:, at], parts) for at, parts in self.dates]
        if len(self.source):
            values = rows.index_select(1, self.source)
            blocks.append((values == self.code).to(torch.float32))
            if self.ordered:
                blocks[-1] = blocks[-1] + self.steps * (values > self.code).to(torch.float32)
        if self.looked_up:
            codes = rows.index_select(1, self.looked)
            known = (codes >= 0.0) & (codes < self.other)  # not if the code is NaN
            place = self.start + torch.where(known, codes, self.other).to(torch.int64)
            blocks.append(self.effect[place].to(torch.float32))
        if len(self.gap):
            blocks.append(torch.isnan(rows.index_select(1, self.gap)).to(torch.float32))
        if self.text_start is not None:
            indices = rows[:, self.text_start :]
            blocks.append(torch.where(torch.isnan(indices), 0.0, indices).to(torch.float32))
        joined = torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]
        return joined.reshape(-1, *self.shape) if len(self.shape) > 1 else joined


def _placed_texts(columns: Sequence[Column]) -> list[tuple[int, Column]]:
    """Return the first cell of each text column in a raw row, where text columns follow the others, and the column.

    >>> from descend.data.ngrams import NGrams
    >>> text = Column("note", "text", text=NGrams(10, 3, (1, 1), (0, 0)))
    >>> [at for at, _ in _placed_texts([text, Column("age", "numeric"), text])]
    [1, 4]
    """
    texts, at = [], sum(column.text is None for column in columns)
    for column in columns:
        if column.text is not None:
            texts.append((at, column))
            at += column.text.length
    return texts


class _ArrayRows(nn.Module):
    """Encoding of images and tensors."""

    shift: Tensor
    spread: Tensor
    center: Tensor
    turn: Tensor

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.shape = schema.input_shape
        self.rotated = schema.rotation is not None
        if schema.rotation is not None:
            center = torch.tensor(schema.rotation.center, dtype=torch.float64)
            self.register_buffer("center", center, persistent=False)
            self.register_buffer("turn", torch.from_numpy(schema.rotation.matrix), persistent=False)
        self.scaled = bool(schema.shift)
        ones = [1] * (len(schema.input_shape) - 1)
        per_channel = schema.kind == "images" or len(schema.shift) != int(np.prod(schema.input_shape))
        shape = (len(schema.shift), *ones) if per_channel else schema.input_shape
        for name, values in (("shift", schema.shift), ("spread", schema.spread)):
            entry = torch.tensor(values, dtype=torch.float32)
            self.register_buffer(name, entry.reshape(shape) if self.scaled else entry, persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        values = rows.to(torch.float32)
        if self.scaled:
            values = (values - self.shift) / self.spread
        if self.rotated:
            rotated = (values.flatten(1).to(torch.float64) - self.center) @ self.turn
            values = rotated.to(torch.float32).reshape(-1, *self.shape)
        return values


class Postprocess(nn.Module):
    """Decode network outputs to predictions, as tensors: the last module of an exported model.

    The predictions are probabilities (n, K) for classification, (n, L) that each of L labels holds,
    and numbers (n, T) in the units of the targets for regression.

    Args:
        schema: the fitted schema.
        form: ``logits``, or ``probabilities`` if the network ends with its own output activation.

    >>> schema = Schema("tensor", "regression", "", (1,), 1, ("y",), target_mean=(10.0,), target_scale=(2.0,))
    >>> Postprocess(schema)(torch.ones(1, 1)).tolist()
    [[12.0]]
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, schema: Schema, form: Form = "logits") -> None:
        super().__init__()
        self.classes = len(schema.classes)
        self.task = schema.task
        self.form = form
        self.inverse = TargetInverse(schema.target_transforms) if schema.target_transforms else None
        self.register_buffer("mean", torch.tensor(schema.target_mean, dtype=torch.float64), persistent=False)
        self.register_buffer(
            "scale", torch.tensor(schema.target_scale, dtype=torch.float64), persistent=False
        )

    def forward(self, outputs: Tensor) -> Tensor:
        """Return probabilities, or numbers in the units of the targets, one row for each row of outputs."""
        if not self.classes:
            numbers = outputs.to(torch.float64) * self.scale + self.mean
            return numbers if self.inverse is None else self.inverse(numbers)
        if self.task == "multiclass":
            return torch.softmax(outputs, dim=1) if self.form == "logits" else outputs
        if self.task == "multi_label":
            return torch.sigmoid(outputs) if self.form == "logits" else outputs
        if self.form == "logits":
            return torch.cat([torch.sigmoid(-outputs), torch.sigmoid(outputs)], dim=1)
        return torch.cat([1.0 - outputs, outputs], dim=1)
