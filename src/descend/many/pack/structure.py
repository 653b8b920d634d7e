"""The structure of a module: modules of equal structure differ only in values, so that one of them can run all."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import type_before_parametrizations

from descend.many.pack.kinds import DROPOUTS

__all__ = ["structure_of"]

_KEPT_BY_TORCH = frozenset(vars(nn.Module()))
"""Attributes in which PyTorch stores parameters, buffers, children and hooks, which are compared separately."""


def structure_of(model: nn.Module) -> tuple[Any, ...]:
    """Return types, settings and shapes of all submodules by name, without dropout rates and parameter values.

    Settings are all plain attributes of a module, compared by their ``repr``; tensors among them are compared by their
    values. An object whose ``repr`` is its address equals no other, so that different models never compare equal.

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
    # Each name is paired with the first name of the same tensor: the models must share the same weights.
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
    from_torch = type_before_parametrizations(module).__module__.startswith("torch.")
    return tuple(
        (name, _text(value))
        for name, value in sorted(vars(module).items())
        # Private attributes of PyTorch's layers follow from the public ones.
        if name not in _KEPT_BY_TORCH
        and not (from_torch and name.startswith("_"))
        and not (name == "p" and type(module) in DROPOUTS)
    )


def _text(value: Any) -> str:
    return repr(value.tolist()) if isinstance(value, Tensor) else repr(value)
