"""The state of training as one tree of plain values and tensors, and that tree as one file.

The file is a safetensors file: tensors bit for bit, and a JSON header for the rest. Reading it executes
nothing. A digest of the content stands in the header, so damage is noticed.
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

__all__ = ["FORMAT", "clone", "decode", "encode", "from_bytes", "read_state", "to_bytes"]

FORMAT = 1
"""Version of the file's layout; a file of a newer one is refused."""


def clone(tree: Any) -> Any:
    """A copy of a tree that later training does not touch; tensors stay on their device."""
    if isinstance(tree, Tensor):
        return tree.detach().clone()
    if isinstance(tree, dict):
        return {name: clone(item) for name, item in tree.items()}
    if isinstance(tree, (list, tuple)):
        return type(tree)(clone(item) for item in tree)
    return tree


def encode(tree: Any) -> tuple[dict[str, Tensor], Any]:
    """A tree as named tensors and JSON-ready values.

    Raises:
        CheckpointError: the tree holds something other than tensors, numbers, texts, None, lists, tuples and
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
            return {kind: [visit(item, f"{where}.{place}".lstrip(".")) for place, item in enumerate(node)]}
        if node is None or isinstance(node, (bool, int, float, str)):
            return node
        raise CheckpointError(
            f"the state at '{where}' is a {type(node).__name__}; a checkpoint holds tensors, numbers and texts"
        )

    return tensors, visit(tree, "")


def decode(tensors: dict[str, Tensor], plain: Any) -> Any:
    """The tree that :func:`encode` took apart."""
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
    """The content of a state file: the tree, and ``meta``, which can be read without it."""
    tensors, plain = encode(tree)
    flat = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    # Two names may share memory (tied weights); the file format wants each to have its own.
    seen: set[int] = set()
    for name, tensor in flat.items():
        if tensor.data_ptr() in seen and tensor.numel():
            flat[name] = tensor.clone()
        seen.add(tensor.data_ptr())
    described = json.dumps({"format": FORMAT, "meta": meta or {}, "tree": plain})
    # One entry: the format does not keep the order of several, and equal states shall be equal files.
    header = {"descend": json.dumps({"digest": _digest(flat, described), "state": described})}
    return safetensors.torch.save(flat, metadata=header)


def _digest(tensors: dict[str, Tensor], described: str) -> str:
    total = blake2b(described.encode(), digest_size=16)
    for name in sorted(tensors):
        total.update(name.encode())
        numbers = tensors[name].reshape(-1)
        if (
            len(numbers) == 1
        ):  # it counts as contiguous with any stride, and cannot be seen as bytes with one but 1
            numbers = numbers.clone(memory_format=torch.contiguous_format)
        total.update(numbers.view(torch.uint8).numpy().data if len(numbers) else b"")
    return total.hexdigest()


def read_state(path: Path) -> tuple[Any, dict[str, Any]]:
    """The tree and the meta of a state file.

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


def from_bytes(content: bytes) -> tuple[Any, dict[str, Any]]:
    """The tree and the meta in what :func:`to_bytes` gave.

    Raises:
        CheckpointError: the content is cut short, altered, or of a newer version.

    >>> from_bytes(to_bytes({"step": 3}, {"part": "train"}))
    ({'step': 3}, {'part': 'train'})
    """
    try:
        tensors = safetensors.torch.load(content)  # numbers and text alone: no code, no pickle
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    except (safetensors.SafetensorError, ValueError) as cause:
        raise CheckpointError(f"the state is damaged or cut short ({cause})") from cause
    return _opened(tensors, header, "received")


def _opened(tensors: dict[str, Tensor], header: dict[str, str], path: str) -> tuple[Any, dict[str, Any]]:
    """The tree and the meta of a file that was read; ``path`` names it in errors."""
    if "descend" not in header:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of descend")
    try:
        outer = json.loads(header["descend"])
        described = json.loads(outer["state"])
        version = int(described["format"])
    except (ValueError, KeyError, TypeError) as cause:
        raise CheckpointError(f"the checkpoint {path} is damaged: its header cannot be read") from cause
    if version > FORMAT:
        raise CheckpointError(
            f"{path} was written by a newer version of descend (format {version}, this one reads up to {FORMAT}); "
            "update descend"
        )
    if outer.get("digest") != _digest(tensors, outer["state"]):
        raise CheckpointError(f"the checkpoint {path} was altered after it was written (its digest differs)")
    return decode(tensors, described["tree"]), described["meta"]
