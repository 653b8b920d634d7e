"""The state of training as a tree of plain values and tensors, and as a file.

The file is a safetensors file: the tensors bit for bit, and a JSON header for everything else. Reading it executes
no code. The header contains a digest of the content, so damage is detected.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from descend.errors import CheckpointError

__all__ = ["STATE_FORMAT", "clone", "decode", "encode", "from_bytes", "read_meta", "read_state", "to_bytes"]

STATE_FORMAT = 1
"""Version of the file's layout; files of a newer version are rejected."""


def clone(tree: Any) -> Any:
    """Return a deep copy of a tree, which later training does not change; tensors stay on their device."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {name: clone(item) for name, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(clone(item) for item in tree)
    return tree


def encode(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """Split a tree into named tensors and a JSON-serializable value.

    Raises:
        CheckpointError: the tree contains something other than tensors, numbers, strings, None, lists, tuples and
            dicts.

    >>> tensors, plain = encode({"step": 3, "w": torch.ones(2), "betas": (0.9, 0.99)})
    >>> back = decode(tensors, plain)
    >>> back["step"], back["betas"], back["w"].tolist()
    (3, (0.9, 0.99), [1.0, 1.0])
    """
    tensors: dict[str, Tensor] = {}

    def visit(node: Any, where: str) -> Any:
        if isinstance(node, Tensor):
            name = where or "value"
            tensors[name] = node.detach()
            return {"tensor": name}
        if isinstance(node, dict):
            return {"dict": [[key, visit(item, f"{where}.{key}".lstrip("."))] for key, item in node.items()]}
        if isinstance(node, (list, tuple)):
            kind = "tuple" if isinstance(node, tuple) else "list"
            return {kind: [visit(item, f"{where}.{index}".lstrip(".")) for index, item in enumerate(node)]}
        if node is None or isinstance(node, (bool, int, float, str)):
            return node
        raise CheckpointError(
            f"the state at '{where}' is a {type(node).__name__}; a checkpoint can contain tensors, numbers and strings"
        )

    return tensors, visit(tree, "")


def decode(tensors: dict[str, Tensor], plain: Any) -> Any:
    """Rebuild the tree that :func:`encode` split."""
    match plain:
        case {"tensor": name}:
            return tensors[name]
        case {"dict": items}:
            return {key: decode(tensors, item) for key, item in items}
        case {"list": items}:
            return [decode(tensors, item) for item in items]
        case {"tuple": items}:
            return tuple(decode(tensors, item) for item in items)
    return plain


def to_bytes(tree: Any, meta: dict[str, Any] | None = None) -> bytes:
    """Return the content of a state file: the tree, and ``meta``, a header for facts about it."""
    tensors, plain = encode(tree)
    flat = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    # Two names may share memory (tied weights), which the file format does not allow.
    seen: set[int] = set()
    for name, tensor in flat.items():
        if tensor.data_ptr() in seen and tensor.numel():
            flat[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    tree_json = json.dumps({"format": STATE_FORMAT, "meta": meta or {}, "tree": plain})
    # A single entry, since the format does not preserve the order of several, and equal states must yield equal files.
    header = {"descend": json.dumps({"digest": _digest(flat, tree_json), "state": tree_json})}
    return safetensors.torch.save(flat, metadata=header)


def _digest(tensors: dict[str, Tensor], tree_json: str) -> str:
    total = blake2b(tree_json.encode(), digest_size=16)
    for name in sorted(tensors):
        total.update(name.encode())
        values = tensors[name].reshape(-1)
        if len(values) == 1:
            # A single value counts as contiguous with any stride, but can be viewed as bytes only with stride 1.
            values = values.clone(memory_format=torch.contiguous_format)
        total.update(values.view(torch.uint8).numpy().data if len(values) else b"")
    return total.hexdigest()


def read_state(path: Path) -> tuple[Any, dict[str, Any]]:
    """Read a state file; return its tree and its meta.

    Raises:
        CheckpointError: the file is missing, cut short, altered, or of a newer version.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise CheckpointError(f"no such checkpoint: {path}") from None
    except (OSError, safetensors.SafetensorError, ValueError) as cause:
        raise CheckpointError(f"the checkpoint {path} is damaged or cut short ({cause})") from cause
    return _opened(tensors, header, str(path))


def read_meta(path: Path) -> dict[str, Any]:
    """Return the meta of a state file without reading its tensors; empty if the file cannot be read."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["descend"])
        meta = json.loads(header["state"])["meta"]
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError):
        return {}
    return meta if isinstance(meta, dict) else {}


def from_bytes(content: bytes) -> tuple[Any, dict[str, Any]]:
    """Return the tree and the meta of content returned by :func:`to_bytes`.

    Raises:
        CheckpointError: the content is cut short, altered, or of a newer version.

    >>> from_bytes(to_bytes({"step": 3}, {"part": "train"}))
    ({'step': 3}, {'part': 'train'})
    """
    try:
        tensors = safetensors.torch.load(content)  # data only: no code, no pickle
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError) as cause:
        raise CheckpointError(f"the state is damaged or cut short ({cause})") from cause
    return _opened(tensors, header, "received")


def _opened(tensors: dict[str, Tensor], header: dict[str, str], path: str) -> tuple[Any, dict[str, Any]]:
    """Return the tree and the meta of a file's content; ``path`` names the file in errors."""
    if "descend" not in header:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of descend")
    try:
        outer = json.loads(header["descend"])
        content = json.loads(outer["state"])
        version = int(content["format"])
    except (ValueError, KeyError, TypeError) as cause:
        raise CheckpointError(f"the checkpoint {path} is damaged: its header cannot be read") from cause
    if version > STATE_FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer version of descend (format {version}, this one reads up to {STATE_FORMAT}); "
            "update descend"
        )
    if outer.get("digest") != _digest(tensors, outer["state"]):
        raise CheckpointError(f"the checkpoint {path} was altered after it was written (its digest differs)")
    return decode(tensors, content["tree"]), content["meta"]
