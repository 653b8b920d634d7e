"""Building one of PyTorch's optimizers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.optim.base import Params, catalogue_name, list_params, raising_user_errors

__all__ = ["build"]

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
    listed = list_params(params)
    if fused is None:
        fused = all(_fusible(p, fused_on) for p in _tensors(listed))
    if fused:
        settings = {**settings, "fused": True}
    with raising_user_errors(catalogue_name(constructor)):
        return constructor(listed, **settings)


def _tensors(listed: list[Any]) -> Iterator[Any]:
    for entry in listed:
        if isinstance(entry, dict):
            yield from _tensors(entry["params"])
        else:
            yield entry[1] if isinstance(entry, tuple) else entry  # a pair from named_parameters()


def _fusible(p: object, devices: frozenset[str]) -> bool:
    return isinstance(p, Tensor) and p.device.type in devices and p.dtype in _FUSED_DTYPES
