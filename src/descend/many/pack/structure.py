"""What a module is but for its numbers: modules of one structure can be run by one of them."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from descend.many.pack.stacking import DROPOUTS

__all__ = ["structure_of"]

_KEPT_BY_TORCH = frozenset(vars(nn.Module()))
"""Attributes in which PyTorch keeps parameters, buffers, children and hooks, which are looked at by themselves."""


def structure_of(model: nn.Module) -> tuple[Any, ...]:
    """Types, settings, shapes of all submodules, by name; the rates of dropout are left out, and all values.

    Settings are all plain attributes of a module, by what ``repr`` says of them, and of a tensor its numbers. An object
    that shows nothing but its address is like no other, so that two models are never taken for alike that are not.

    >>> one, other = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.1)), nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.2))
    >>> structure_of(one) == structure_of(other)
    True
    >>> structure_of(nn.Sequential(nn.ELU(alpha=1.0))) == structure_of(nn.Sequential(nn.ELU(alpha=0.5)))
    False
    """
    modules = tuple(
        (name, type_before_parametrizations(module), _settings(module))
        for name, module in model.named_modules(remove_duplicate=False)
    )
    # Names of one tensor stand together: those that share weights must be the same everywhere.
    first: dict[int, str] = {}
    tensors = tuple(
        (name, first.setdefault(id(t), name), tuple(t.shape), t.dtype, t.requires_grad)
        for name, t in [
            *model.named_parameters(remove_duplicate=False),
            *model.named_buffers(remove_duplicate=False),
        ]
    )
    return modules, tensors


def _settings(module: nn.Module) -> tuple[tuple[str, str], ...]:
    theirs = type_before_parametrizations(module).__module__.startswith("torch.")
    return tuple(
        (name, _shown(value))
        for name, value in sorted(vars(module).items())
        # PyTorch's layers keep what they compute by in private attributes, which follows from the public ones.
        if name not in _KEPT_BY_TORCH
        and not (theirs and name.startswith("_"))
        and not (name == "p" and type(module) in DROPOUTS)
    )


def _shown(value: Any) -> str:
    return repr(value.tolist()) if isinstance(value, Tensor) else repr(value)
