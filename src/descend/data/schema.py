"""The schema: everything prediction needs to know about the data, as an object and as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from descend.data.arrays import as_numbers
from descend.data.columns import FARTHEST, LARGEST, STRICT, Column
from descend.data.decorrelation import Rotation
from descend.data.encoding import cells_of_row, conform, encode
from descend.data.frames import as_array, as_frame, is_frame
from descend.data.image_arrays import as_images
from descend.data.labels import Label, codes_of, restore
from descend.data.messages import listed, rows_hold
from descend.data.missing_numbers import missing_numbers
from descend.data.ngrams import NGrams
from descend.data.older_schemas import with_current_names
from descend.data.row_numbers import naming
from descend.data.schema_faults import fault_of
from descend.data.settings import MISSING, Decimal, LabelSeparator, Separator
from descend.data.source import Array, Kind, Source
from descend.data.target_transform import TargetTransform
from descend.data.task import Task, target_numbers
from descend.errors import DataError, RunError
from descend.installation import update_command
from descend.process import in_fork

if TYPE_CHECKING:
    import torch

__all__ = ["Form", "Schema"]

Form = Literal["logits", "probabilities", "values"]
_VERSION = 1


@dataclass(frozen=True)
class Schema:
    """Description of the data: columns, classes, fitted scaling, shapes, parts.

    Args:
        kind: ``table``, ``images``, ``tensor`` or ``dataset``.
        task: ``regression``, ``multi_regression``, ``binary``, ``multiclass`` or ``multi_label``.
        why: the reason for the task, as a phrase.
        input_shape: shape of one encoded row, the input of the network.
        outputs: number of predictions per row: 1 for binary, else the number of classes, labels or targets.
        target_names: a name for each target.
        columns: all columns of a table in their order, including unused ones.
        named: whether the column names are meaningful, or only number the columns of an array.
        missing: strings that stand for a missing value, in all columns or by the name of the column.
        decimal: the decimal mark of numbers in text files and strings; ``auto`` if none occurred.
        separator: the specified separator of text files, or ``auto``.
        encoding: the specified encoding of text files, or ``auto``.
        white: the gray level of white in images with more than 8 bits per pixel, which is stored as 255; None if no
            training image has more.
        classes: the class labels in the order of the network's outputs; for several labels, the two values of each, of
            which the second means that it holds.
        label_dtype: the NumPy dtype of the labels.
        target_mean, target_scale: a target y is learned as (y - mean) / scale; with transforms, as (T(y) - mean) / scale.
        target_transforms: the increasing function T of each target, see :mod:`descend.data.target_transform`; empty if
            the scale is linear.
        target_average: the means of the training targets where these are learned in their own units; training starts
            from predictions near them.
        scale: name of the scale of the inputs.
        clip: the smooth bound on scaled numbers, or None.
        shift, spread: an entry x of images and tensors is encoded as (x - shift) / spread, with one pair
            for each channel, or for each entry.
        rotation: the linear map of the scaled numbers of a table, or of the scaled entries of images and tensors,
            if ``scale`` is ``pca``, ``whiten`` or ``zca``.
        fingerprint: digest of the data, see :meth:`descend.data.source.Source.fingerprint`.
        reference: what identifies the data on a command line, or None.
        name: a short name of the data.
        rows: number of rows in each part.
        label_column: name of the target whose rows list their labels, which are the ``target_names``; empty for others.
        label_separator: the specified separator of the labels in strings, or ``none``.
    """

    kind: Kind
    task: Task
    why: str
    input_shape: tuple[int, ...]
    outputs: int
    target_names: tuple[str, ...]
    columns: tuple[Column, ...] = ()
    named: bool = True
    missing: tuple[str, ...] | Mapping[str, tuple[str, ...]] = MISSING
    decimal: Decimal = "auto"
    separator: Separator = "auto"
    encoding: str = "auto"
    white: float | None = None
    classes: tuple[Label, ...] = ()
    label_dtype: str = ""
    target_mean: tuple[float, ...] = ()
    target_scale: tuple[float, ...] = ()
    target_average: tuple[float, ...] = ()
    target_transforms: tuple[TargetTransform, ...] = ()
    scale: str = "standard"
    clip: float | None = None
    shift: tuple[float, ...] = ()
    spread: tuple[float, ...] = ()
    rotation: Rotation | None = None
    fingerprint: str = ""
    reference: str | None = None
    name: str = ""
    rows: Mapping[str, int] = field(default_factory=dict)
    label_column: str = ""
    label_separator: LabelSeparator = "none"

    __pydantic_config__: ClassVar[dict[str, object]] = STRICT

    @property
    def used(self) -> tuple[Column, ...]:
        """The columns that are inputs of the network, in the order of the raw matrix."""
        return tuple(column for column in self.columns if column.used)

    @property
    def width(self) -> int:
        """The number of cells of a table's raw row: one for each used column, and as many as n-grams for text."""
        return cells_of_row(self.columns)

    @property
    def texts(self) -> tuple[NGrams, ...]:
        """How the text columns are hashed, in the order of their cells."""
        return tuple(column.text for column in self.used if column.text is not None)

    @cached_property
    def labels(self) -> Array:
        """The class labels in their original dtype; empty for regression."""
        return restore(self.classes, self.label_dtype) if self.classes else np.empty(0)

    @in_fork
    def matrix(self, data: Any) -> torch.Tensor:
        """Return new rows as raw numbers, the input of :class:`~descend.data.preprocessing.Preprocess`.

        Columns are found by name in any order, and additional columns are ignored. An array must have the columns of
        the training data in the same order; so must a data frame if the training data were an array.

        Args:
            data: for a table, a data frame of any library, a dictionary of columns, a list of
                dictionaries, or an array; for images, a uint8 array (n, channels, height, width), or with the
                channels last (an array of another dtype has the gray levels of the training images if these have more
                than 8 bits per pixel); for tensors, an array; or a Source of any of these.

        Returns: float64 (n, :attr:`width`) for a table, uint8 for images, float32 otherwise.

        Raises:
            DataError: columns are missing or hold values of another kind, or the shape is wrong.
        """
        if isinstance(data, Source):
            with naming(data.numbers):
                rows = data.frame if data.frame is not None else data.inputs
                return self._matrix(
                    rows, data.named, self.decimal if self.decimal != "auto" else data.decimal
                )
        return self._matrix(data, True, self.decimal)

    def _matrix(self, data: Any, named: bool, decimal: Decimal) -> torch.Tensor:
        import torch

        if self.kind == "table":
            # Read-only arrays are copied: PyTorch warns of a tensor that shares memory it must not write.
            return torch.from_numpy(np.require(self._numbers(data, named, decimal), requirements="W"))
        if is_frame(data) or data is None:
            raise DataError(f"expected {self.kind} of shape {self.input_shape}, as in training, got a table")
        if self.kind == "images":
            return torch.from_numpy(
                np.require(as_images(data, self.input_shape, self.white), requirements="W")
            )
        return torch.from_numpy(as_numbers(data, self.input_shape))

    def _numbers(self, data: Any, named: bool, decimal: Decimal) -> Array:
        names = [column.name for column in self.columns]
        if isinstance(data, np.ma.MaskedArray):
            data = as_array(data)
        if isinstance(data, np.ndarray) and data.ndim == 2 and data.dtype.kind in "iuf":
            numbers = self._plain_numbers(data)
            if numbers is not None:
                return numbers
        frame = as_frame(data, names)
        if not named or not (
            self.named or {name.strip() for name in names} <= set(frame.columns)
        ):  # by position
            if frame.width != len(names):
                raise DataError(
                    f"expected {len(names)} columns, as in training ({listed(names, 4)}), got {frame.width}"
                )
            frame = frame.rename(dict(zip(frame.columns, names, strict=True)))
        return encode(conform(frame, self.columns, self.missing, decimal), self.columns)

    def _plain_numbers(self, data: Array) -> Array | None:
        """Select the used columns of a numeric array, without parsing; None if the columns need parsing."""
        if data.shape[1] != len(self.columns) or any(column.kind != "numeric" for column in self.used):
            return None
        if any(missing_numbers(self.missing, column.name) for column in self.used):
            return None
        chosen = [at for at, column in enumerate(self.columns) if column.used]
        numbers = np.ascontiguousarray(
            data if len(chosen) == data.shape[1] else data[:, chosen], dtype=np.float64
        )
        if numbers is data:
            numbers = numbers.copy()
        mean = np.array([column.mean for column in self.used])
        reach = FARTHEST * np.array([column.scale for column in self.used])
        with np.errstate(invalid="ignore", over="ignore"):
            extreme = (np.abs(numbers) > LARGEST).any() or (np.abs(numbers - mean) > reach).any()
        return None if extreme else numbers

    def encode_targets(self, targets: Array) -> torch.Tensor:
        """Encode raw targets as the loss takes them.

        Returns: int64 (n,) for multiclass, float32 (n,) of 0 and 1 for binary, float32 (n, L) of 0 and 1 for several
            labels, float32 (n, T) for regression, standardized unless they are learned in their own units.

        Raises:
            DataError: a class is unknown, or a target is not a number.
        """
        import torch

        if self.task == "multi_label":
            if targets.ndim != 2 or targets.shape[1] != self.outputs:
                got = targets.shape[1] if targets.ndim == 2 else 1
                raise DataError(
                    f"expected {self.outputs} labels per row ({listed(self.target_names, 6)}), got {got}"
                )
            entries = codes_of(targets.reshape(-1), self.classes, columns=self.outputs)
            return torch.from_numpy(entries.reshape(targets.shape)).float()
        if self.classes:
            codes = torch.from_numpy(codes_of(targets, self.classes))
            return codes.float() if self.task == "binary" else codes
        try:
            numbers = target_numbers(np.asarray(targets), self.decimal).reshape(len(targets), -1)
        except (TypeError, ValueError) as cause:
            raise DataError(f"the target {', '.join(self.target_names)} must be numeric: {cause}") from cause
        invalid = np.isnan(numbers).any(axis=1)
        if invalid.any():
            odd = np.asarray(targets).reshape(len(targets), -1)[invalid].reshape(-1).tolist()
            raise DataError(
                f"the target {', '.join(self.target_names)} must be numeric, but {rows_hold(np.flatnonzero(invalid))} "
                f"{listed(dict.fromkeys(odd), 3)}"
            )
        if numbers.shape[1] != self.outputs:
            raise DataError(f"expected {self.outputs} targets per row, got {numbers.shape[1]}")
        if self.target_transforms:
            columns = zip(self.target_transforms, numbers.T, strict=True)
            numbers = np.stack([transform(column) for transform, column in columns], axis=1)
        scaled = (numbers - np.array(self.target_mean)) / np.array(self.target_scale)
        return torch.from_numpy(scaled.astype(np.float32))

    def probabilities(self, outputs: torch.Tensor, form: Form = "logits") -> torch.Tensor:
        """Return class probabilities (n, K) for network outputs (n, 1) or (n, K); of labels that they hold, (n, L).

        Args:
            outputs: raw outputs.
            form: ``logits``, or ``probabilities`` if the network ends with its own output activation.
        """
        import torch

        if not self.classes:
            raise DataError("a regression has no class probabilities")
        if self.task == "multi_label":
            return torch.sigmoid(outputs) if form == "logits" else outputs
        if self.task == "binary":
            first = outputs.reshape(-1, 1)
            if form != "logits":
                return torch.cat([1 - first, first], dim=1)
            return torch.cat([torch.sigmoid(-first), torch.sigmoid(first)], dim=1)
        return torch.softmax(outputs, dim=1) if form == "logits" else outputs

    def decode(self, outputs: torch.Tensor, form: Form = "logits") -> Array:
        """Decode network outputs to predictions: labels of the original dtype, or numbers in the units of the targets.

        Returns: shape (n,), or (n, T) for several targets or labels.
        """
        values = outputs.detach().double().cpu()
        if self.classes:
            if self.task == "multi_label":
                codes = (values > (0.0 if form == "logits" else 0.5)).long().numpy()
            elif self.task == "binary":
                codes = (values.reshape(-1) > (0.0 if form == "logits" else 0.5)).long().numpy()
            else:
                codes = values.argmax(dim=1).numpy()
            chosen: Array = self.labels[codes]
            return chosen
        numbers: Array = self.in_units(values.reshape(-1, self.outputs)).numpy()
        return numbers[:, 0] if self.task == "regression" else numbers

    def in_units(self, values: torch.Tensor) -> torch.Tensor:
        """Return learned targets of a regression (..., T) in the units of the targets, float64.

        >>> import torch
        >>> schema = Schema("tensor", "regression", "", (1,), 1, ("y",), target_mean=(10.0,), target_scale=(2.0,))
        >>> schema.in_units(torch.tensor([[1.0]])).tolist()
        [[12.0]]
        """
        import torch

        from descend.data.target_units import TargetInverse

        scale = torch.tensor(self.target_scale, dtype=torch.float64, device=values.device)
        mean = torch.tensor(self.target_mean, dtype=torch.float64, device=values.device)
        numbers = values.double() * scale + mean
        if not self.target_transforms:
            return numbers
        result: torch.Tensor = TargetInverse(self.target_transforms).to(values.device)(numbers)
        return result

    def table(self) -> list[dict[str, str]]:
        """Describe the columns, one dictionary each: name, kind, values, missing, note.

        >>> Schema("table", "binary", "", (1,), 1, ("y",), (Column("age", "numeric", low=1, high=9),)).table()
        [{'name': 'age', 'kind': 'numeric', 'values': '1 to 9', 'missing': '', 'note': ''}]
        """
        return [
            {
                "name": column.name,
                "kind": column.kind,
                "values": column.values,
                "missing": str(column.missing) if column.missing else "",
                "note": column.note,
            }
            for column in self.columns
        ]

    def to_json(self) -> str:
        """Return the schema as JSON; every number is restored exactly.

        >>> schema = Schema("tensor", "binary", "", (3,), 1, ("y",), classes=("a", "b"), label_dtype="<U1")
        >>> Schema.from_json(schema.to_json()) == schema
        True
        """
        content = {"version": _VERSION, **dataclasses.asdict(self)}
        return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, source: str = "schema.json") -> Schema:
        """Read a schema written by :meth:`to_json`.

        Raises:
            RunError: the text is damaged, was changed, or comes from a newer version.
        """
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as cause:
            raise RunError(f"{source} is damaged: {cause}") from cause
        if not isinstance(content, dict) or not isinstance(content.get("version"), int):
            raise RunError(f"{source} is damaged: it has no version")
        version = content.pop("version")
        if version > _VERSION:
            raise RunError(
                f"{source} has version {version}, but this descend reads versions up to {_VERSION}; "
                f"update it with: {update_command()}"
            )
        if version < 1:
            raise RunError(f"{source} is damaged: version {version}")
        schema = _validated(with_current_names(content), source)
        fault = fault_of(schema)
        if fault:
            raise RunError(f"{source} is damaged: {fault}")
        return schema


def _validated(content: dict[str, Any], source: str) -> Schema:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Schema).validate_json(json.dumps(content), strict=True)
    except ValidationError as cause:
        first = cause.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "content"
        raise RunError(f"{source} is damaged: {where}: {first['msg']}") from cause
