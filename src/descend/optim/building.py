"""What all optimizers take, and how one is built: parameters or groups, and complaints as UserErrors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.errors import UserError

__all__ = ["Params", "build", "catalogued"]

Params = Iterable[Tensor] | Iterable[dict[str, Any]]
"""Parameters, or groups: dicts with ``params`` and settings of their own."""

_FUSED_DTYPES = frozenset({torch.float32, torch.float64, torch.bfloat16})


def build(
    constructor: Callable[..., Optimizer],
    params: Params,
    settings: dict[str, Any],
    *,
    fused: bool | None = False,
    fused_on: frozenset[str] = frozenset(),
) -> Optimizer:
    """Build one of PyTorch's optimizers, whose complaints become UserErrors.

    It is fused where ``fused`` says so or, for None, where all parameters allow it.
    """
    listed = [_group(entry) if isinstance(entry, dict) else entry for entry in params]
    if fused is None:
        fused = all(_fusible(p, fused_on) for p in _tensors(listed))
    if fused:
        settings = {**settings, "fused": True}
    try:
        return constructor(listed, **settings)
    except (TypeError, ValueError, RuntimeError) as cause:
        raise UserError(f"{catalogued(constructor)}: {cause}") from cause


def catalogued(constructor: Callable[..., Any]) -> str:
    """The name in the catalogue of an optimizer's class, which users know it by.

    It is the class's ``catalogue_name``, or the words of its name in small letters.

    >>> catalogued(torch.optim.SparseAdam), catalogued(torch.optim.AdamW)
    ('sparse_adam', 'adamw')
    """
    said: str | None = getattr(constructor, "catalogue_name", None)
    return said or re.sub(r"(?<=[a-z])(?=[A-Z][A-Za-z])", "_", constructor.__name__).lower()


def _group(entry: dict[str, Any]) -> dict[str, Any]:
    """A parameter group whose parameters are a list, so that they can be looked at twice."""
    if "params" not in entry:
        raise UserError(f"a parameter group needs the key 'params'; found the keys {sorted(entry)}")
    inside = entry["params"]
    return {**entry, "params": [inside] if isinstance(inside, Tensor) else list(inside)}


def _tensors(listed: list[Any]) -> Iterator[Any]:
    for entry in listed:
        if isinstance(entry, dict):
            yield from _tensors(entry["params"])
        else:
            yield entry[1] if isinstance(entry, tuple) else entry  # a pair from named_parameters()


def _fusible(p: object, devices: frozenset[str]) -> bool:
    return isinstance(p, Tensor) and p.device.type in devices and p.dtype in _FUSED_DTYPES
