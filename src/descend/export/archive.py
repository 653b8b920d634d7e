"""Reader of ``pt2`` files that executes nothing from the file.

``torch.export.load`` (PyTorch 2.13) unpickles what an archive marks as pickled, evaluates its symbolic expressions and
compiles its guards and names as Python code, so that an untrusted file can run any code. Here the archive is a ZIP file
of JSON and plain numbers: weights are read as bytes, and the graph is interpreted node by node. An operation must be
one of PyTorch's core operations, elementwise, a reduction, or one of a few on complex numbers; none of these accesses
files or code.
"""

from __future__ import annotations

import json
import operator
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from descend.data.schema import Schema
from descend.errors import RunError
from descend.export.pt2 import SCHEMA_FILE

__all__ = ["Archive"]

_SCHEMA_MAJOR = 8  # schema version of the graph
_SAFE = {torch.Tag.core, torch.Tag.pointwise, torch.Tag.reduction}
_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    10: torch.complex64,
    11: torch.complex128,
    12: torch.bool,
    13: torch.bfloat16,
}
_COMPLEX_OPERATIONS = {"complex", "polar", "_conj", "view_as_real", "view_as_complex", "_fft_c2c"}
"""Operations on complex numbers, which are not core operations but plain arithmetic."""
_LAYOUT = {0: torch.strided, 7: torch.strided}
_MEMORY = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_SIZE_OPERATIONS: Mapping[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
} | {"torch.sym_max": max, "torch.sym_min": min}
_READ_ERRORS = (
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    AttributeError,
    RuntimeError,
    zipfile.BadZipFile,
    OSError,
)

Json = dict[str, Any]


class Archive:
    """The schema and the program of a ``pt2`` file written by descend.

    Args:
        path: the file.

    Raises:
        RunError: the file is damaged, has another version, was not written by descend, or contains unsupported
            operations.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as file:
                self._files = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
        except (*_READ_ERRORS, NotImplementedError, EOFError) as cause:
            raise RunError(f"{path} is damaged or truncated ({cause})") from cause
        text = self._files.get(f"extra/{SCHEMA_FILE}")
        if text is None or "models/model.json" not in self._files:
            raise RunError(
                f"{path} is not a model exported by descend: it contains no {SCHEMA_FILE} or no graph"
            )
        self.schema = Schema.from_json(text.decode("utf-8", "replace"), f"{path}: {SCHEMA_FILE}")
        try:
            self._load()
        except RunError:
            raise
        except _READ_ERRORS as cause:
            raise RunError(f"{path} is damaged ({type(cause).__name__}: {cause})") from cause

    def _load(self) -> None:
        model = json.loads(self._files["models/model.json"])
        major = model["schema_version"]["major"]
        if major != _SCHEMA_MAJOR:
            raise RunError(
                f"{self.path}: expected version {_SCHEMA_MAJOR} of the format, got version {major} of the format, written "
                f"by PyTorch {model.get('torch_version')}; export the run again"
            )
        graph, signature = model["graph_module"]["graph"], model["graph_module"]["signature"]
        stored = self._stored("weights", "model_weights_config") | self._stored(
            "constants", "model_constants_config"
        )
        self._constants: dict[str, Any] = {}
        self._input = ""
        for spec in signature["input_specs"]:
            ((kind, entry),) = spec.items()
            if kind == "user_input":
                self._input = entry["arg"]["as_tensor"]["name"]
            elif kind not in _NAME_KEYS:
                raise _unsupported(self.path, f"a graph with an input of kind '{kind}'")
            else:
                self._constants[entry["arg"]["name"]] = stored[entry[_NAME_KEYS[kind]]]
        self._nodes = [_Node(node, self.path) for node in graph["nodes"] if node["outputs"]]
        self._results = [output["as_tensor"]["name"] for output in graph["outputs"]]
        needed = set(self._results) | set(self._constants)
        for node in reversed(self._nodes):
            node.last = (node.reads | node.writes) - needed
            needed |= node.reads
        self._files.clear()

    def _stored(self, folder: str, index: str) -> dict[str, Tensor]:
        entries = json.loads(self._files[f"data/{folder}/{index}.json"])["config"]
        return {name: self._tensor(folder, entry) for name, entry in entries.items()}

    def _tensor(self, folder: str, entry: Json) -> Tensor:
        if entry["use_pickle"]:
            raise RunError(
                f"{self.path} contains pickled tensors, which are not read because unpickling runs code"
            )
        meta = entry["tensor_meta"]
        raw = bytearray(self._files[f"data/{folder}/{entry['path_name']}"])
        kind = _DTYPES[meta["dtype"]]
        sizes, strides = ([part["as_int"] for part in meta[key]] for key in ("sizes", "strides"))
        if not raw:
            return torch.empty(sizes, dtype=kind)
        return torch.frombuffer(raw, dtype=kind).as_strided(sizes, strides, meta["storage_offset"]["as_int"])

    def program(self, rows: Tensor) -> list[Tensor]:
        """Return predictions for raw numbers, see :class:`descend.export.portable.Portable`."""
        values = {**self._constants, self._input: rows}
        try:
            for node in self._nodes:
                node.run(values)
                for name in node.last:
                    del values[name]
            return [values[name] for name in self._results]
        except _READ_ERRORS as cause:
            raise RunError(f"the program in {self.path} failed ({type(cause).__name__}: {cause})") from cause


_NAME_KEYS = {
    "parameter": "parameter_name",
    "buffer": "buffer_name",
    "tensor_constant": "tensor_constant_name",
}


def _unsupported(path: Path, what: str) -> RunError:
    return RunError(
        f"{path} contains {what}; it is not supported here. If you trust the file, use "
        "torch.export.load(path).module()(rows)"
    )


class _Node:
    """An operation of the graph with its arguments and the names of its results."""

    def __init__(self, node: Json, path: Path) -> None:
        target = node["target"]
        operation = _operation(target)
        if operation is None:
            raise _unsupported(path, f"the operation {target}, which is not one of PyTorch's core operations")
        self.operation = operation
        self.last: set[str] = set()  # values that no later node reads
        self.arguments = [entry["arg"] for entry in node["inputs"] if entry.get("kind") != 2]
        self.named = {entry["name"]: entry["arg"] for entry in node["inputs"] if entry.get("kind") == 2}
        self.results = [_names(output) for output in node["outputs"]]
        self.reads = set(_read_by([self.arguments, list(self.named.values())]))
        self.writes = {
            name for names in self.results for name in ([names] if isinstance(names, str) else names)
        }

    def run(self, values: dict[str, Any]) -> None:
        """Apply the operation to the values by name, and store its results."""
        arguments = [_value(argument, values) for argument in self.arguments]
        result = self.operation(*arguments, **{name: _value(arg, values) for name, arg in self.named.items()})
        single = len(self.results) == 1
        for names, value in zip(self.results, [result] if single else result, strict=True):
            if isinstance(names, list):
                values.update(zip(names, value, strict=True))
            else:
                values[names] = value


def _operation(target: str) -> Callable[..., Any] | None:
    if target in _SIZE_OPERATIONS:
        return _SIZE_OPERATIONS[target]
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5:
        return None
    overload = getattr(getattr(torch.ops.aten, parts[3], None), parts[4], None)
    if not isinstance(overload, torch._ops.OpOverload) or overload._schema.is_mutable:
        return None
    return overload if _SAFE & set(overload.tags) or parts[3] in _COMPLEX_OPERATIONS else None


def _names(output: Json) -> str | list[str]:
    """Return the name of a node's result, or one name for each tensor of a list."""
    ((kind, value),) = output.items()
    if kind == "as_tensors":
        return [each["name"] for each in value]
    return str(value["name" if kind == "as_tensor" else "as_name"])


def _read_by(arguments: Any) -> Iterator[str]:
    """Yield the names of the values that arguments refer to."""
    if isinstance(arguments, list):
        for each in arguments:
            yield from _read_by(each)
    elif isinstance(arguments, dict):
        for key, value in arguments.items():
            if key in ("name", "as_name"):
                yield value
            else:
                yield from _read_by(value)


def _value(argument: Json, values: Mapping[str, Any]) -> Any:
    """Return the value of an argument of an operation."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return values[value["name"]]
        case "as_tensors":
            return [values[each["name"]] for each in value]
        case "as_optional_tensor":
            return _value(value, values)
        case "as_optional_tensors" | "as_nested_tensors":
            return [
                _value(each if isinstance(each, dict) else {"as_tensors": each}, values) for each in value
            ]
        case "as_float":
            return float(value)  # infinities are stored as strings
        case "as_floats":
            return [float(each) for each in value]
        case "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return values[value["as_name"]] if "as_name" in value else next(iter(value.values()))
        case "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
            return [_value({kind[:-1]: each}, values) for each in value]
        case "as_scalar_type":
            return _DTYPES[value]
        case "as_memory_format":
            return _MEMORY[value]
        case "as_layout":
            return _LAYOUT[value]
        case "as_device":
            return torch.device("cpu")
        case "as_int" | "as_ints" | "as_bool" | "as_bools" | "as_string" | "as_strings":
            return value
    raise RunError(f"unknown kind of argument: {kind}")
