"""Scales of the inputs, and the module that turns raw rows into what the network gets.

A scale is a function of the training rows (n, d) that returns shift and spread, both of shape (d,);
an input x enters the network as (x - shift) / spread. A new scale is one function and one line in
``ELEMENTWISE``. Scales of all inputs together, which also return a matrix, are in
:mod:`descend.data.rotation`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from descend.cards import method
from descend.data.columns import Column
from descend.data.rotation import ROTATIONS, Rotation
from descend.data.schema import Form, Schema
from descend.data.source import Array

__all__ = [
    "ELEMENTWISE",
    "SCALES",
    "UNIT",
    "Postprocess",
    "Preprocess",
    "Scale",
    "center",
    "minmax",
    "none",
    "standard",
]

Scale = Callable[[Array, "Array | None"], "tuple[Array, Array]"]


@method(
    row="F1",
    reference="Ju Sun, Training DNNs (2025); scikit-learn's StandardScaler",
    formula="(x - mean) / standard deviation",
    note="the deviation divides by n; an input that does not vary keeps spread 1",
)
def standard(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Mean 0 and standard deviation 1 for each input.

    The mean is taken about the first row, so that inputs with a large offset (dates, identifiers) lose
    no digits.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.

    Returns: shift (d,) and spread (d,).

    >>> shift, spread = standard(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> shift.tolist(), spread.tolist()
    ([2.0, 5.0], [1.0, 1.0])
    """
    total = len(rows) if weights is None else weights.sum()
    origin = rows[0].copy()
    centred = rows - origin
    mean = _sum(centred, weights) / total
    centred -= mean
    rest = _sum(centred, weights) / total
    centred -= rest
    shift = origin + (mean + rest)
    centred *= centred
    spread = np.sqrt(_sum(centred, weights) / total)
    still = spread <= 16 * np.finfo(np.float64).eps * np.abs(shift)
    return shift, np.where(still, 1.0, spread)


def _sum(rows: Array, weights: Array | None) -> Array:
    found: Array = rows.sum(axis=0) if weights is None else weights @ rows
    return found


@method(
    row="F1",
    reference="Ju Sun, Training DNNs (2025); scikit-learn's StandardScaler(with_std=False)",
    formula="x - mean",
    note="units stay as they are, and numbers have no smooth bound (data.clip)",
)
def center(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Mean 0 for each input, which keeps its unit.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None.

    Returns: shift (d,) and spread (d,), which is 1.

    >>> center(np.array([[1.0, 5.0], [3.0, 5.0]]))[0].tolist()
    [2.0, 5.0]
    """
    shift, _ = standard(rows, weights)
    return shift, np.ones_like(shift)


@method(
    row="F1",
    reference="scikit-learn's MinMaxScaler",
    formula="(x - min) / (max - min)",
    note="new rows may lie outside [0, 1], and one outlier presses the others together; numbers have no "
    "smooth bound (data.clip)",
)
def minmax(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """From 0, the smallest training value of each input, to 1, the largest.

    Args:
        rows: training inputs, float64 (n, d), without missing values.
        weights: a weight for each row, or None; rows of weight 0 do not count.

    Returns: shift (d,) and spread (d,), 1 where an input does not vary.

    >>> shift, spread = minmax(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> shift.tolist(), spread.tolist()
    ([1.0, 5.0], [2.0, 1.0])
    """
    counted = rows if weights is None else rows[weights > 0]
    low, high = counted.min(axis=0), counted.max(axis=0)
    return low, np.where(high > low, high - low, 1.0)


@method(row="F1", reference="the raw numbers", formula="x", note="shows why scaling matters")
def none(rows: Array, weights: Array | None = None, /) -> tuple[Array, Array]:
    """Inputs as they are."""
    return np.zeros(rows.shape[1]), np.ones(rows.shape[1])


ELEMENTWISE: dict[str, Scale] = {"standard": standard, "center": center, "minmax": minmax, "none": none}
"""Scales of each input by itself."""
SCALES: dict[str, Callable[..., tuple[Array, ...]]] = {**ELEMENTWISE, **ROTATIONS}
UNIT = frozenset({"standard", "whiten", "zca"})
"""Scales that give numbers a standard deviation of 1, to which the smooth bound applies."""


class Preprocess(nn.Module):
    """Raw rows to network inputs, built from a schema alone.

    Tables, float64 (n, C) to float32 (n, d): a missing number becomes its fill and the numbers are
    scaled, v = (x - mean) / scale, rotated where the scale says so, and compressed,
    v / sqrt(1 + (v / clip)^2); truth values become
    -1 and 1 (0 where missing); a category becomes a one-hot block (all zeros where missing or unseen);
    then come the 0/1 indicators of missing values. Numbers are centred in float64, so that a large offset
    costs no digits. Order of the inputs: numbers and truth values, categories, indicators, see ``names``.
    A rotation takes the numbers; truth values, categories and indicators stay.

    Images, uint8 (n, channels, height, width), and tensors, float32 (n, ...): (x - shift) / spread
    in float32, with one shift for each channel of images, and for each entry or channel of tensors; then the
    rotation of all entries of a row, in float64, so that the result hardly depends on which rows go together.

    ``numbers`` says which of a table's inputs are numbers, and ``columns`` which used column each belongs to.

    All operations survive ``torch.export`` and ONNX with any number of rows, and treat each row alone.

    Args:
        schema: fitted schema.

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
        self.rows: nn.Module
        if schema.kind == "table":
            self.rows = _TableRows(schema.used, schema.clip, schema.input_shape, schema.rotation)
            if schema.scale in ("pca", "whiten"):
                self.rows.name_components()
            self.names = self.rows.names
            self.columns = tuple(torch.cat([self.rows.numeric, self.rows.source, self.rows.gap]).tolist())
            self.numbers = tuple(at in self.rows.turned for at in range(len(self.names)))
        else:
            self.rows = _ArrayRows(schema)

    def forward(self, rows: Tensor) -> Tensor:
        """Network inputs, float32, one for each raw row."""
        encoded: Tensor = self.rows(rows)
        return encoded


class _TableRows(nn.Module):
    numeric: Tensor
    fill: Tensor
    mean: Tensor
    scale: Tensor
    bound: Tensor
    source: Tensor
    code: Tensor
    gap: Tensor
    centre: Tensor
    turn: Tensor

    def __init__(
        self,
        columns: tuple[Column, ...],
        clip: float | None,
        shape: tuple[int, ...],
        rotation: Rotation | None,
    ) -> None:
        super().__init__()
        numeric = [(at, column) for at, column in enumerate(columns) if column.kind != "categorical"]
        onehot = [
            (at, code, column.inputs[code])
            for at, column in enumerate(columns)
            if column.kind == "categorical"
            for code in range(len(column.categories))
        ]
        gaps = [(at, column.inputs[-1]) for at, column in enumerate(columns) if column.indicator]
        self.names = (
            *(column.name for _, column in numeric),
            *(name for *_, name in onehot),
            *(name for _, name in gaps),
        )  # fmt: skip
        self.shape = shape
        self.clipped = clip is not None
        limit = [float("inf") if clip is None or column.kind == "boolean" else clip for _, column in numeric]
        indices = {
            "numeric": [at for at, _ in numeric],
            "source": [at for at, *_ in onehot],
            "gap": [at for at, _ in gaps],
        }
        numbers = {
            "fill": [column.fill for _, column in numeric],
            "mean": [column.mean for _, column in numeric],
            "scale": [column.scale for _, column in numeric],
            "bound": limit,
            "code": [code for _, code, _ in onehot],
        }
        for name, index in indices.items():
            self.register_buffer(name, torch.tensor(index, dtype=torch.int64), persistent=False)
        for name, values in numbers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float64), persistent=False)
        self.turned = [at for at, (_, column) in enumerate(numeric) if column.kind != "boolean"]
        self.rotated = rotation is not None
        if rotation is not None:
            # Truth values are among the numbers; the matrix leaves them as they are.
            centre, turn = np.zeros(len(numeric)), np.eye(len(numeric))
            centre[self.turned] = rotation.centre
            turn[np.ix_(self.turned, self.turned)] = rotation.matrix
            self.register_buffer("centre", torch.from_numpy(centre), persistent=False)
            self.register_buffer("turn", torch.from_numpy(turn), persistent=False)

    def name_components(self) -> None:
        """Call the rotated inputs components, since none of them is a column any more."""
        number = {at: place for place, at in enumerate(self.turned, start=1)}
        self.names = tuple(
            f"component {number[at]}" if at in number else name for at, name in enumerate(self.names)
        )

    def forward(self, rows: Tensor) -> Tensor:
        blocks = []
        if len(self.numeric):
            values = rows.index_select(1, self.numeric)
            values = torch.where(torch.isnan(values), self.fill, values)
            values = (values - self.mean) / self.scale
            if self.rotated:
                values = (values - self.centre) @ self.turn
            if self.clipped:
                ratio = values / self.bound
                values = values / torch.sqrt(1.0 + ratio * ratio)
            blocks.append(values.to(torch.float32))
        if len(self.source):
            blocks.append((rows.index_select(1, self.source) == self.code).to(torch.float32))
        if len(self.gap):
            blocks.append(torch.isnan(rows.index_select(1, self.gap)).to(torch.float32))
        joined = torch.cat(blocks, dim=1) if len(blocks) > 1 else blocks[0]
        return joined.reshape(-1, *self.shape) if len(self.shape) > 1 else joined


class _ArrayRows(nn.Module):
    shift: Tensor
    spread: Tensor
    centre: Tensor
    turn: Tensor

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.shape = schema.input_shape
        self.rotated = schema.rotation is not None
        if schema.rotation is not None:
            centre = torch.tensor(schema.rotation.centre, dtype=torch.float64)
            self.register_buffer("centre", centre, persistent=False)
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
            turned = (values.flatten(1).to(torch.float64) - self.centre) @ self.turn
            values = turned.to(torch.float32).reshape(-1, *self.shape)
        return values


class Postprocess(nn.Module):
    """Network outputs to predictions, as tensors: the end of an exported model.

    Classification: probabilities (n, K). Regression: numbers (n, T) in the targets' units.

    Args:
        schema: fitted schema.
        form: ``logits``, or ``probabilities`` where the network ends with its own link.

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
        self.register_buffer("mean", torch.tensor(schema.target_mean, dtype=torch.float64), persistent=False)
        self.register_buffer(
            "scale", torch.tensor(schema.target_scale, dtype=torch.float64), persistent=False
        )

    def forward(self, outputs: Tensor) -> Tensor:
        """Probabilities, or numbers in the targets' units, one row for each row of outputs."""
        if not self.classes:
            return outputs.to(torch.float64) * self.scale + self.mean
        if self.task == "multiclass":
            return torch.softmax(outputs, dim=1) if self.form == "logits" else outputs
        if self.form == "logits":
            return torch.cat([torch.sigmoid(-outputs), torch.sigmoid(outputs)], dim=1)
        return torch.cat([1.0 - outputs, outputs], dim=1)
