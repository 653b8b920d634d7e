"""The format ``onnx``: the traced network between nodes that read raw columns and nodes that return labels."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from descend._version import __version__
from descend.data.category_forms import aliases
from descend.data.columns import Column
from descend.data.messages import listed
from descend.data.missing_numbers import missing_numbers
from descend.data.schema import Schema
from descend.data.settings import missing_in
from descend.errors import UserError, require
from descend.export.description import (
    Example,
    as_json,
    column_entry,
    entries_of,
    example_of,
    meaning,
    rows_entry,
)
from descend.export.portable import silenced, trace
from descend.interface import option

if TYPE_CHECKING:
    from descend.export.trained_network import TrainedNetwork

__all__ = ["content"]

_MAX_BYTES = 2**31 - 1  # of one protobuf message
_SPACE = "[\\t\\n\\x0b\\f\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}]"
"""Pattern of the characters that Unicode counts as white space, which training strips, for RE2."""
_ML = "ai.onnx.ml"
_ML_VERSION = 3


def content(run: TrainedNetwork) -> bytes:
    """Return the content of the file: one graph from raw columns to labels and probabilities, validated by ONNX's checker.

    Raises:
        MissingExtraError: ``onnx`` or ``onnxscript`` is not installed.
        UserError: the network cannot be traced, or contains an operation that ONNX does not have.
    """
    onnx = require("onnx", "onnx", "exporting to ONNX")
    require("onnxscript", "onnx", "exporting to ONNX")
    if sum(value.nbytes for value in run.model.state_dict().values()) > _MAX_BYTES:
        raise UserError(
            f"the weights exceed 2 GB, the limit of an ONNX file; use {option('--format pt2', 'the format pt2')}"
        )
    texts = [column.name for column in run.schema.used if column.kind == "text"]
    if texts:
        raise UserError(
            f"the text column{'s' if len(texts) > 1 else ''} {listed(texts)} cannot be written as ONNX, which has no operator "
            f"that hashes parts of strings; use {option('--format pt2', 'the format pt2')}"
        )
    program = trace(run.predictor)
    output_names = ["codes", "probabilities"] if run.schema.classes else ["values"]
    try:
        with silenced():
            converted = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=["rows"], output_names=output_names
            )
    except Exception as cause:  # the exporter raises many types, with the reason as the cause
        reason = str(cause.__cause__ or cause).strip().splitlines() or [type(cause).__name__]
        raise UserError(
            f"the network cannot be written as ONNX: {reason[0]}\n"
            f"Use operations that ONNX supports, or {option('--format pt2', 'the format pt2')}"
        ) from cause
    assert converted is not None
    model = converted.model_proto
    for node in model.graph.node:
        node.ClearField("metadata_props")  # paths of files on this machine
        node.ClearField("doc_string")
    assembled = _Assembly(onnx, model, run.schema, example_of(run.predictor)).model()
    onnx.checker.check_model(assembled, full_check=True)
    return bytes(assembled.SerializeToString())


class _Assembly:
    """The graph of the network, extended in place at both ends.

    Args:
        onnx: the package.
        network: the traced model, from ``rows`` to ``codes`` and ``probabilities``, or to ``values``.
        schema: schema of the data.
        example: a row with its outputs.
    """

    def __init__(self, onnx: Any, network: Any, schema: Schema, example: Example) -> None:
        self.onnx, self.helper, self.schema, self.example = onnx, onnx.helper, schema, example
        self.prefix = _free_prefix(schema)
        self.network = onnx.compose.add_prefix(network, prefix=self.prefix)
        self.graph = self.network.graph
        self.before: list[Any] = []
        self.after: list[Any] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []

    def model(self) -> Any:
        """Return the complete model."""
        if self.schema.kind == "table" and not _as_one_input(self.schema):
            self._columns()
        else:
            self._rows()
        used_names = {each.name for each in self.inputs}
        if self.schema.classes:
            self._classes(used_names)
        else:
            self._values(used_names)
        inner = list(self.graph.node)
        for kept, parts in (
            (self.graph.node, [*self.before, *inner, *self.after]),
            (self.graph.input, self.inputs),
            (self.graph.output, self.outputs),
        ):
            del kept[:]
            kept.extend(parts)
        self.graph.name = "descend"
        if any(node.op_type == "If" for node in self.before):
            self.network.opset_import.append(self.helper.make_opsetid(_ML, _ML_VERSION))
        self.network.producer_name, self.network.producer_version = "descend", __version__
        schema = dataclasses.replace(self.schema, reference=None)
        properties = {"schema": schema.to_json(), "descend": __version__, "description": self._described()}
        self.helper.set_model_props(self.network, properties)
        return self.network

    def _described(self) -> str:
        """Return the description of the inputs and outputs, with the example, as JSON."""
        names = [each.name for each in self.outputs]
        types = [each.type.tensor_type for each in self.outputs]
        outputs: list[dict[str, Any]] = [
            {
                "name": name,
                "dtype": _dtype_name(self.onnx, kind.elem_type),
                "shape": ["rows", *(one.dim_value for one in kind.shape.dim[1:])],
                "meaning": text,
            }
            for name, kind, text in zip(names, types, self._meanings(), strict=True)
        ]
        values = [value.numpy() for value in self.example.outputs]
        if self.schema.classes:
            values = [_portable_labels(self.schema)[values[0]], values[1]]
        else:
            values = list(values[0].T[: len(names)])
        results = {name: value.tolist() for name, value in zip(names, values, strict=True)}
        inputs, fed = self._described_inputs()
        return as_json(self.schema, inputs, outputs, fed, results, {})

    def _described_inputs(self) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the entries of the inputs, and the example by their names."""
        columns = self.schema.columns
        if self.schema.kind != "table":
            return [rows_entry(self.schema)], {"rows": entries_of(self.example, self.schema)}
        entries = {
            column.name: column_entry(column, self.schema, strings=True) for column in self.schema.used
        }
        if _as_one_input(self.schema):
            rows = {"name": "rows", "dtype": "float64", "shape": ["rows", len(columns)]}
            unused = {"kind": "unused", "meaning": "any number; not used"}
            rows["columns"] = [
                entries.get(column.name, {"name": column.name, **unused}) for column in columns
            ]
            return [rows], {"rows": [[self.example.values.get(column.name, 0.0) for column in columns]]}
        inputs = [
            {**entry, "dtype": "string" if entry["kind"] == "categorical" else "float64", "shape": ["rows"]}
            for entry in entries.values()
        ]
        return inputs, {name: [self.example.values[name]] for name in entries}

    def _meanings(self) -> list[str]:
        """Return what each output means."""
        if not self.schema.classes:
            return [f"the predicted {name}, in its units" for name in self.schema.target_names]
        if self.schema.task == "multi_label":
            return [
                "for each label of 'targets', the second of 'classes' if it holds, else the first",
                "the probability that each label of 'targets' holds",
            ]
        return ["the predicted class", "the probability of each of 'classes', in their order"]

    def _columns(self) -> None:
        """Add one input for each used column, and concatenate them to the network's rows."""
        parts = []
        for column in self.schema.used:
            is_text = column.kind == "categorical"
            self._input(column.name, "STRING" if is_text else "DOUBLE", ("rows",), _description(column))
            number = self._codes(column) if is_text else self._without_missing_numbers(column.name, [column])
            parts.append(self._node("Unsqueeze", [number, self._constant("one", np.array([1]))]))
        self._node("Concat", parts, f"{self.prefix}rows", axis=1)

    def _codes(self, column: Column) -> str:
        """Return the float64 codes of a text column.

        Like training, the graph strips surrounding white space. Strings without any are looked up in a table; only if
        the rows contain such spaces, each category is matched as a regular expression.
        """
        forms = _forms(column, self.schema)
        other = float(len(column.coded) - 1) if column.pooled else -1.0
        at = len(self.before)
        padded = self._node("RegexFullMatch", [column.name], pattern=f"(?s)(?:{_SPACE}.*|.*{_SPACE})")
        count = self._node("Cast", [padded], to=self.onnx.TensorProto.INT64)
        total = self._node("ReduceSum", [count], keepdims=0)
        condition = self._node("Greater", [total, self._constant("zero", np.array(0))])
        table = [
            self.helper.make_node(
                "LabelEncoder", [column.name], [f"{self.prefix}codes {at}"], domain=_ML,
                keys_strings=list(forms), values_floats=list(forms.values()), default_float=other,
            )
        ]  # fmt: skip
        return self._node(
            "If",
            [condition],
            then_branch=self._branch(self._matches(column.name, forms, other, at), f"matches {at}"),
            else_branch=self._branch(table, f"codes {at}"),
        )

    def _matches(self, column: str, forms: Mapping[str, float], other: float, at: int) -> list[Any]:
        """Return nodes that find the code of each string between white space."""
        by_code: dict[float | None, list[str]] = {}
        for form, code in forms.items():
            by_code.setdefault(None if np.isnan(code) else code, []).append(form)
        nodes, codes = [], self._constant(f"other {at}", np.array(other, dtype=np.float32))
        for place, (known, own) in enumerate(by_code.items()):
            pattern = f"(?s){_SPACE}*(?:{'|'.join(map(re.escape, own))}){_SPACE}*"
            match, found = f"{self.prefix}match {at} {place}", f"{self.prefix}found {at} {place}"
            value = np.array(np.nan if known is None else known, dtype=np.float32)
            constant = self._constant(f"code {'missing' if known is None else int(known)}", value)
            nodes.append(self.helper.make_node("RegexFullMatch", [column], [match], pattern=pattern))
            nodes.append(self.helper.make_node("Where", [match, constant, codes], [found]))
            codes = found
        return nodes

    def _branch(self, nodes: list[Any], name: str) -> Any:
        """Return a branch that ends with the codes as float64."""
        result = f"{self.prefix}{name} as float64"
        cast = self.helper.make_node("Cast", [nodes[-1].output[0]], [result], to=self.onnx.TensorProto.DOUBLE)
        shape = self.helper.make_tensor_value_info(result, self.onnx.TensorProto.DOUBLE, ("rows",))
        return self.helper.make_graph([*nodes, cast], f"{self.prefix}{name}", [], [shape])

    def _rows(self) -> None:
        """Add one input for all columns of a table without names, or for images and tensors."""
        if self.schema.kind != "table":
            kind = "UINT8" if self.schema.kind == "images" else "FLOAT"
            self._input("rows", kind, ("rows", *self.schema.input_shape), "as in training")
            self._node("Identity", ["rows"], f"{self.prefix}rows")
            return
        columns = self.schema.columns
        used = np.array([at for at, column in enumerate(columns) if column.used])
        self._input("rows", "DOUBLE", ("rows", len(columns)), "columns as in training; NaN where missing")
        rows = self._without_missing_numbers("rows", columns)
        self._node("Gather", [rows, self._constant("used", used)], f"{self.prefix}rows", axis=1)

    def _without_missing_numbers(self, values: str, columns: Sequence[Column]) -> str:
        """Return the numbers of columns with NaN in place of those that stand for a missing value, such as -999."""
        numbers = [
            missing_numbers(self.schema.missing, column.name) if column.kind in ("numeric", "boolean") else ()
            for column in columns
        ]
        for at in range(max(map(len, numbers), default=0)):
            place = len(self.before)
            own = np.array([float(one[at]) if at < len(one) else np.nan for one in numbers])
            absent = self._node("Equal", [values, self._constant(f"missing {place}", own)])
            values = self._node("Where", [absent, self._constant("nan", np.array(np.nan)), values])
        return values

    def _classes(self, used_names: set[str]) -> None:
        """Add outputs for the labels in their own type and for the probabilities; with several labels, one column each."""
        labels = _portable_labels(self.schema)
        kind = self.helper.np_dtype_to_tensor_dtype(labels.dtype)
        label, probabilities = _free("label", used_names), _free("probabilities", used_names)
        self._node("Gather", [self._constant("classes", labels), f"{self.prefix}codes"], label, at_end=True)
        self._node("Identity", [f"{self.prefix}probabilities"], probabilities, at_end=True)
        several = self.schema.task == "multi_label"
        width = self.schema.outputs if several else len(self.schema.classes)
        precision = self.graph.output[1].type.tensor_type.elem_type
        self.outputs = [
            self.helper.make_tensor_value_info(label, kind, ("rows", width) if several else ("rows",)),
            self.helper.make_tensor_value_info(probabilities, precision, ("rows", width)),
        ]

    def _values(self, used_names: set[str]) -> None:
        """Add one output for each target."""
        names = self.schema.target_names if self.schema.task == "multi_regression" else ("value",)
        for at, name in enumerate(names):
            output = _free(name, used_names)
            used_names.add(output)
            column = self._constant(f"target {at}", np.array(at))
            self._node("Gather", [f"{self.prefix}values", column], output, axis=1, at_end=True)
            self.outputs.append(
                self.helper.make_tensor_value_info(output, self.onnx.TensorProto.DOUBLE, ("rows",))
            )

    def _input(self, name: str, kind: str, shape: tuple[str | int, ...], description: str) -> None:
        element = getattr(self.onnx.TensorProto, kind)
        self.inputs.append(self.helper.make_tensor_value_info(name, element, shape, doc_string=description))

    def _constant(self, name: str, values: np.ndarray[Any, Any]) -> str:
        name = f"{self.prefix}{name}"
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
        output = output or f"{self.prefix}before {len(self.before)}"
        nodes.append(self.helper.make_node(kind, inputs, [output], **settings))
        return output


def _as_one_input(schema: Schema) -> bool:
    """Return whether the columns of a table are numbers without meaningful names."""
    pixels = len(schema.input_shape) > 1
    return (pixels or not schema.named) and all(column.kind != "categorical" for column in schema.used)


def _forms(column: Column, schema: Schema) -> dict[str, float]:
    """Return the code of each string that is a category in any form, and NaN for those that mean a missing value."""
    categories = column.coded[:-1] if column.pooled else column.coded
    code = {category: float(at) for at, category in enumerate(categories)}
    forms = {form: code[category] for form, category in aliases(categories).items()}
    absent = dict.fromkeys(("", *missing_in(schema.missing, column.name)), float("nan"))
    return forms | absent | code  # what is a category is not missing


def _free_prefix(schema: Schema) -> str:
    """Return a prefix that no name of a column or target starts with."""
    prefix = "network/"
    names = [*(column.name for column in schema.columns), *schema.target_names]
    while any(name.startswith(prefix) for name in names):
        prefix = f"_{prefix}"
    return prefix


def _free(name: str, used_names: set[str]) -> str:
    while name in used_names:
        name = f"predicted_{name}"
    return name


def _description(column: Column) -> str:
    if column.kind == "categorical":
        return f"{meaning(column)}: {', '.join(column.coded)}; an empty string where missing"
    return f"{meaning(column)}; NaN where missing"


def _dtype_name(onnx: Any, element: int) -> str:
    name = str(onnx.helper.tensor_dtype_to_np_dtype(element))
    return "string" if name == "object" else name


def _portable_labels(schema: Schema) -> np.ndarray[Any, Any]:
    """Return the class labels as an array of a type that ONNX supports: string, int64, float64 or bool."""
    labels = np.array(schema.classes)
    merged = labels.dtype.kind == "f" and all(isinstance(label, int) for label in schema.classes)
    if labels.dtype.kind in "USO" or merged:  # NumPy has no common type for some large integers
        return np.array([str(label) for label in schema.classes], dtype=object)
    return labels.astype({"i": np.int64, "u": np.uint64, "f": np.float64, "b": np.bool_}[labels.dtype.kind])
