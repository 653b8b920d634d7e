"""A ``pt2`` file read without executing anything in it.

``torch.export.load`` (PyTorch 2.13) unpickles what an archive marks as pickled, evaluates its symbolic
expressions and compiles its guards and names as Python text, so a file from a stranger can run any code.
Here the archive is a ZIP of JSON and plain numbers: weights are taken as bytes, and the graph is carried out
node by node. An operation has to be one of PyTorch's core operations, or to act on each element or to
reduce, or one of a few on complex numbers; none of these reaches files or code.
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

_SCHEMA_MAJOR = 8  # of the graph's JSON
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
_OF_COMPLEX = {"complex", "polar", "_conj", "view_as_real", "view_as_complex", "_fft_c2c"}
"""Operations on complex numbers, which are none of the core ones and no more than arithmetic either."""
_LAYOUT = {0: torch.strided, 7: torch.strided}
_MEMORY = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
_ON_SIZES: Mapping[str, Callable[..., Any]] = {
    f"_operator.{name}": getattr(operator, name)
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
} | {"torch.sym_max": max, "torch.sym_min": min}
_DAMAGE = (
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
    """The schema and the program of a ``pt2`` file that descend wrote.

    Args:
        path: the file.

    Raises:
        RunError: the file is damaged, of another version, not from descend, or holds other operations.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as file:
                self._files = {name.partition("/")[2]: file.read(name) for name in file.namelist()}
        except (*_DAMAGE, NotImplementedError, EOFError) as cause:
            raise RunError(f"{path} is damaged or cut short ({cause})") from cause
        text = self._files.get(f"extra/{SCHEMA_FILE}")
        if text is None or "models/model.json" not in self._files:
            raise RunError(f"{path} is no model exported by descend: it holds no {SCHEMA_FILE} or no graph")
        self.schema = Schema.from_json(text.decode("utf-8", "replace"), f"{path}: {SCHEMA_FILE}")
        try:
            self._load()
        except RunError:
            raise
        except _DAMAGE as cause:
            raise RunError(f"{path} is damaged ({type(cause).__name__}: {cause})") from cause

    def _load(self) -> None:
        model = json.loads(self._files["models/model.json"])
        major = model["schema_version"]["major"]
        if major != _SCHEMA_MAJOR:
            raise RunError(
                f"{self.path} was written by PyTorch {model.get('torch_version')} in version {major} of the "
                f"format, this descend reads {_SCHEMA_MAJOR}; export the run again"
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
            elif kind not in _NAME_OF:
                raise _refused(self.path, f"a graph with an input of kind '{kind}'")
            else:
                self._constants[entry["arg"]["name"]] = stored[entry[_NAME_OF[kind]]]
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
            raise RunError(f"{self.path} holds pickled tensors, which are not read because reading runs code")
        meta = entry["tensor_meta"]
        raw = bytearray(self._files[f"data/{folder}/{entry['path_name']}"])
        kind = _DTYPES[meta["dtype"]]
        sizes, strides = ([part["as_int"] for part in meta[key]] for key in ("sizes", "strides"))
        if not raw:
            return torch.empty(sizes, dtype=kind)
        return torch.frombuffer(raw, dtype=kind).as_strided(sizes, strides, meta["storage_offset"]["as_int"])

    def program(self, rows: Tensor) -> list[Tensor]:
        """Predictions for raw numbers, see :class:`descend.export.portable.Portable`."""
        held = {**self._constants, self._input: rows}
        try:
            for node in self._nodes:
                node.run(held)
                for name in node.last:
                    del held[name]
            return [held[name] for name in self._results]
        except _DAMAGE as cause:
            raise RunError(f"the program in {self.path} failed ({type(cause).__name__}: {cause})") from cause


_NAME_OF = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


def _refused(path: Path, what: str) -> RunError:
    return RunError(
        f"{path} holds {what}; this is not carried out here. If you trust who made the file: "
        "torch.export.load(path).module()(rows)"
    )


class _Node:
    """One operation: where its arguments come from, and what its results are called."""

    def __init__(self, node: Json, path: Path) -> None:
        target = node["target"]
        operation = _operation(target)
        if operation is None:
            raise _refused(path, f"the operation {target}, none of PyTorch's core operations")
        self.operation = operation
        self.last: set[str] = set()  # what nobody reads after this node
        self.arguments = [entry["arg"] for entry in node["inputs"] if entry.get("kind") != 2]
        self.named = {entry["name"]: entry["arg"] for entry in node["inputs"] if entry.get("kind") == 2}
        self.results = [_names(output) for output in node["outputs"]]
        self.reads = set(_read_by([self.arguments, list(self.named.values())]))
        self.writes = {
            name for names in self.results for name in ([names] if isinstance(names, str) else names)
        }

    def run(self, held: dict[str, Any]) -> None:
        """Carry it out on what is held by name."""
        arguments = [_value(argument, held) for argument in self.arguments]
        found = self.operation(*arguments, **{name: _value(arg, held) for name, arg in self.named.items()})
        single = len(self.results) == 1
        for names, value in zip(self.results, [found] if single else found, strict=True):
            if isinstance(names, list):
                held.update(zip(names, value, strict=True))
            else:
                held[names] = value


def _operation(target: str) -> Callable[..., Any] | None:
    if target in _ON_SIZES:
        return _ON_SIZES[target]
    words = target.split(".")
    if words[:3] != ["torch", "ops", "aten"] or len(words) != 5:
        return None
    found = getattr(getattr(torch.ops.aten, words[3], None), words[4], None)
    if not isinstance(found, torch._ops.OpOverload) or found._schema.is_mutable:
        return None
    return found if _SAFE & set(found.tags) or words[3] in _OF_COMPLEX else None


def _names(output: Json) -> str | list[str]:
    """What a node's result is called: one name, or one for each tensor of a list."""
    ((kind, value),) = output.items()
    if kind == "as_tensors":
        return [each["name"] for each in value]
    return str(value["name" if kind == "as_tensor" else "as_name"])


def _read_by(arguments: Any) -> Iterator[str]:
    """Names of the values that arguments refer to."""
    if isinstance(arguments, list):
        for each in arguments:
            yield from _read_by(each)
    elif isinstance(arguments, dict):
        for key, value in arguments.items():
            if key in ("name", "as_name"):
                yield value
            else:
                yield from _read_by(value)


def _value(argument: Json, held: Mapping[str, Any]) -> Any:
    """An argument of an operation."""
    ((kind, value),) = argument.items()
    match kind:
        case "as_none":
            return None
        case "as_tensor":
            return held[value["name"]]
        case "as_tensors":
            return [held[each["name"]] for each in value]
        case "as_optional_tensor":
            return _value(value, held)
        case "as_optional_tensors" | "as_nested_tensors":
            return [_value(each if isinstance(each, dict) else {"as_tensors": each}, held) for each in value]
        case "as_float":
            return float(value)  # infinities are written as words
        case "as_floats":
            return [float(each) for each in value]
        case "as_sym_int" | "as_sym_float" | "as_sym_bool":
            return held[value["as_name"]] if "as_name" in value else next(iter(value.values()))
        case "as_sym_ints" | "as_sym_floats" | "as_sym_bools":
            return [_value({kind[:-1]: each}, held) for each in value]
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
    raise RunError(f"an argument of kind {kind} is not known")
