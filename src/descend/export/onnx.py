"""The format ``onnx``: the traced network between nodes that take raw columns and give labels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descend._version import __version__
from descend.data.columns import Column
from descend.data.schema import Schema
from descend.errors import UserError, require
from descend.export.portable import quiet, traced

if TYPE_CHECKING:
    from descend.export.trained_network import TrainedNetwork

__all__ = ["content"]

_LIMIT = 2**31 - 1  # bytes in one protobuf message
_ML = "ai.onnx.ml"
_ML_VERSION = 3


def content(run: TrainedNetwork) -> bytes:
    """The file: one graph from raw columns to labels and probabilities, checked by ONNX's own checker.

    Raises:
        MissingExtraError: ``onnx`` or ``onnxscript`` is not installed.
        UserError: the network cannot be traced, or an operation of it has no counterpart in ONNX.
    """
    onnx = require("onnx", "onnx", "exporting to ONNX")
    require("onnxscript", "onnx", "exporting to ONNX")
    if sum(value.nbytes for value in run.model.state_dict().values()) > _LIMIT:
        raise UserError("the weights exceed 2 GB, the most that one ONNX file holds; use --format pt2")
    program = traced(run.predictor)
    named = ["codes", "probabilities"] if run.schema.classes else ["values"]
    try:
        with quiet():
            converted = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=["rows"], output_names=named
            )
    except Exception as cause:  # the exporter raises many kinds, and chains the one that says why
        reason = str(cause.__cause__ or cause).strip().splitlines() or [type(cause).__name__]
        raise UserError(
            f"the network cannot be written as ONNX: {reason[0]}\n"
            "What helps: operations that ONNX knows, or --format pt2"
        ) from cause
    assert converted is not None
    model = converted.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # what lies where on this machine
        node.ClearField("doc_string")
    whole = _Assembly(onnx, model, run.schema).model()
    onnx.checker.check_model(whole, full_check=True)
    return bytes(whole.SerializeToString())


class _Assembly:
    """The network's graph, extended at both ends in place.

    Args:
        onnx: the package.
        network: takes ``rows`` and gives ``codes`` and ``probabilities``, or ``values``.
        schema: of the data.
    """

    def __init__(self, onnx: Any, network: Any, schema: Schema) -> None:
        self.onnx, self.helper, self.schema = onnx, onnx.helper, schema
        self.own = _free_prefix(schema)
        self.network = onnx.compose.add_prefix(network, prefix=self.own)
        self.graph = self.network.graph
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def model(self) -> Any:
        """The whole."""
        if self.schema.kind == "table" and not _as_one_input(self.schema):
            self._columns()
        else:
            self._rows()
        taken = {each.name for each in self.inputs}
        if self.schema.classes:
            self._classes(taken)
        else:
            self._values(taken)
        inner = list(self.graph.node)
        for kept, parts in (
            (self.graph.node, [*self.before, *inner, *self.after]),
            (self.graph.input, self.inputs),
            (self.graph.output, self.outputs),
        ):
            del kept[:]
            kept.extend(parts)
        self.graph.name = "descend"
        if any(node.domain == _ML for node in self.before):
            self.network.opset_import.append(self.helper.make_opsetid(_ML, _ML_VERSION))
        self.network.producer_name, self.network.producer_version = "descend", __version__
        schema = dataclasses.replace(self.schema, reference=None)
        self.helper.set_model_props(self.network, {"schema": schema.to_json(), "descend": __version__})
        return self.network

    def _columns(self) -> None:
        """One input for each used column, joined to the network's rows."""
        parts = []
        for column in self.schema.used:
            text = column.kind == "categorical"
            self._input(column.name, "STRING" if text else "DOUBLE", ("rows",), _meaning(column))
            number = self._codes(column) if text else column.name
            parts.append(self._node("Unsqueeze", [number, self._constant("one", np.array([1]))]))
        self._node("Concat", parts, f"{self.own}rows", axis=1)

    def _codes(self, column: Column) -> str:
        """A column of texts as float64 codes."""
        own = column.categories[:-1] if column.pooled else column.categories
        pairs = [(word, float("nan")) for word in ("", *self.schema.missing)]
        pairs += [(word, float(code)) for code, word in enumerate(own)]
        # Training takes texts without the spaces around them; here that holds for one space on each side.
        codes = {text: code for word, code in pairs for text in (word, f" {word}", f"{word} ", f" {word} ")}
        found = self._node(
            "LabelEncoder",
            [column.name],
            domain=_ML,
            keys_strings=list(codes),
            values_floats=list(codes.values()),
            default_float=float(len(own)) if column.pooled else -1.0,
        )
        return self._node("Cast", [found], to=self.onnx.TensorProto.DOUBLE)

    def _rows(self) -> None:
        """One input for all columns of a table without names, or for images and tensors."""
        if self.schema.kind != "table":
            kind = "UINT8" if self.schema.kind == "images" else "FLOAT"
            self._input("rows", kind, ("rows", *self.schema.input_shape), "as in training")
            self._node("Identity", ["rows"], f"{self.own}rows")
            return
        columns = self.schema.columns
        used = np.array([at for at, column in enumerate(columns) if column.used])
        self._input("rows", "DOUBLE", ("rows", len(columns)), "columns as in training; NaN where missing")
        self._node("Gather", ["rows", self._constant("used", used)], f"{self.own}rows", axis=1)

    def _classes(self, taken: set[str]) -> None:
        """Labels in their own type, and probabilities."""
        labels = _portable_labels(self.schema)
        kind = self.helper.np_dtype_to_tensor_dtype(labels.dtype)
        label, probabilities = _free("label", taken), _free("probabilities", taken)
        self._node("Gather", [self._constant("classes", labels), f"{self.own}codes"], label, at_end=True)
        self._node("Identity", [f"{self.own}probabilities"], probabilities, at_end=True)
        width = len(self.schema.classes)
        precision = self.graph.output[1].type.tensor_type.elem_type
        self.outputs = [
            self.helper.make_tensor_value_info(label, kind, ("rows",)),
            self.helper.make_tensor_value_info(probabilities, precision, ("rows", width)),
        ]

    def _values(self, taken: set[str]) -> None:
        """One output for each target."""
        names = self.schema.target_names if self.schema.task == "multi_regression" else ("value",)
        for at, name in enumerate(names):
            output = _free(name, taken)
            taken.add(output)
            column = self._constant(f"target {at}", np.array(at))
            self._node("Gather", [f"{self.own}values", column], output, axis=1, at_end=True)
            self.outputs.append(
                self.helper.make_tensor_value_info(output, self.onnx.TensorProto.DOUBLE, ("rows",))
            )

    def _input(self, name: str, kind: str, shape: tuple[str | int, ...], meaning: str) -> None:
        element = getattr(self.onnx.TensorProto, kind)
        self.inputs.append(self.helper.make_tensor_value_info(name, element, shape, doc_string=meaning))

    def _constant(self, name: str, values: np.ndarray[Any, Any]) -> str:
        name = f"{self.own}{name}"
        if all(each.name != name for each in self.graph.initializer):
            self.graph.initializer.append(self.onnx.numpy_helper.from_array(values, name))
        return name

    def _node(
        self,
        kind: str,
        inputs: list[str],
        output: str | None = None,
        *,
        at_end: bool = False,
        **settings: Any,
    ) -> str:
        nodes = self.after if at_end else self.before
        output = output or f"{self.own}before {len(self.before)}"
        nodes.append(self.helper.make_node(kind, inputs, [output], **settings))
        return output


def _as_one_input(schema: Schema) -> bool:
    """Whether the columns of a table are numbers whose names say nothing."""
    pixels = len(schema.input_shape) > 1
    return (pixels or not schema.named) and all(column.kind != "categorical" for column in schema.used)


def _free_prefix(schema: Schema) -> str:
    """What starts the name of no column and no target."""
    prefix = "network/"
    names = [*(column.name for column in schema.columns), *schema.target_names]
    while any(name.startswith(prefix) for name in names):
        prefix = f"_{prefix}"
    return prefix


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name = f"predicted_{name}"
    return name


def _meaning(column: Column) -> str:
    kinds = {
        "numeric": "a number",
        "boolean": "1 for true, 0 for false",
        "date": "days since 1970-01-01",
        "categorical": "text; training saw " + ", ".join(column.categories),
    }
    missing = "empty" if column.kind == "categorical" else "NaN"
    return f"{kinds[column.kind]}; {missing} where missing"


def _portable_labels(schema: Schema) -> np.ndarray[Any, Any]:
    """Class labels as an array of a type that ONNX has: text, int64, float64 or bool."""
    labels = np.array(schema.classes)
    if labels.dtype.kind in "USO":
        return np.array([str(label) for label in schema.classes], dtype=object)
    return labels.astype({"i": np.int64, "u": np.uint64, "f": np.float64, "b": np.bool_}[labels.dtype.kind])
