"""The module that is run for all members of a pack, made ready for ``torch.vmap``.

Dropouts become factors that come in from outside. What a member draws must then be known before a step: each dropout
is called once, in an order and on shapes that do not depend on the rows, and nothing else draws. A run on a few
rows shows whether that is so.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _WeightNorm

from descend.errors import message_of
from descend.many.pack.layers import PackedDropout
from descend.many.pack.stacking import DROPOUTS, CannotPack
from descend.rng import forked

__all__ = ["Arithmetic", "Template", "first_line", "template_of", "tensors_of"]

Arithmetic = Callable[[], AbstractContextManager[object]]


class _Drop(nn.Module):
    """In place of a dropout: multiplies by noise from outside, and counts and notes what it is called on."""

    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.ones(()), persistent=False)
        self.seen: list[Tensor] = []
        self.noting = False

    def forward(self, x: Tensor) -> Tensor:
        """The same shape; in evaluation, x itself."""
        if self.noting:
            self.seen.append(x.detach())
        return x * self.noise if self.training else x


class _Direction(nn.Module):
    """Weight normalisation g v/‖v‖ by plain operations, which ``vmap`` knows; PyTorch's own is one it does not."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        """The weight."""
        others = [d for d in range(direction.dim()) if d != self.dim]
        norm = torch.linalg.vector_norm(direction, dim=others, keepdim=True)
        return cast(Tensor, direction * (length / norm))


@dataclass(frozen=True)
class Template:
    """The module that is run for all members, and the names of what is put into it.

    Args:
        module: a copy of the first member's, whose own tensors are not used.
        trained: names of its trained parameters.
        held: names of its other tensors.
        state: for each name of the state dict, the name that its tensor has above (shared tensors have several).
        drops: names of the modules that multiply by noise, in the order of execution.
    """

    module: nn.Module
    trained: tuple[str, ...]
    held: tuple[str, ...]
    state: dict[str, str]
    drops: tuple[str, ...]


def template_of(
    models: Sequence[nn.Module], sample: Tensor, arithmetic: Arithmetic | None
) -> tuple[Template, list[PackedDropout]]:
    """A template for models of one structure, and their dropouts in the order of execution.

    Args:
        models: alike.
        sample: rows (n, …), at least 3.
        arithmetic: autocast, for mixed precision.

    Raises:
        CannotPack: a member's draws cannot be made before the step, as they are made alone.
    """
    for name, module in models[0].named_modules():
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            raise CannotPack(f"'{name or type(module).__name__}' has hooks")
    try:
        module = copy.deepcopy(models[0]).train()
    except Exception as cause:  # anyone's module may refuse
        raise CannotPack(f"the network cannot be copied: {first_line(cause)}") from cause
    names = _names(module)
    _by_plain_operations(module)
    rates = _without_dropouts(module, models)
    with forked(sample.device):
        order = _watched(module, rates, sample, arithmetic)
    dropouts = []
    for name, (seen, features) in order.items():
        dropout = PackedDropout(rates[name][0], features)
        dropout.shape, dropout.dtype = (len(models), *seen.shape), seen.dtype
        dropouts.append(dropout)
    return Template(module, *names, tuple(order)), dropouts


def _names(module: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Names of trained tensors, of the others, and for each name of the state dict that of its tensor."""
    tensors = tensors_of(module)
    parameters = {name for name, p in module.named_parameters() if p.requires_grad}
    trained = tuple(name for name in tensors if name in parameters)
    held = tuple(name for name in tensors if name not in parameters)
    of_tensor = {id(t): name for name, t in tensors.items()}
    state: dict[str, str] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) not in of_tensor:
            raise CannotPack(f"'{name}' of its state is neither a parameter nor a buffer")
        state[name] = of_tensor[id(value)]
    return trained, held, state


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    return dict(itertools.chain(module.named_parameters(), module.named_buffers()))


def _by_plain_operations(module: nn.Module) -> None:
    """Put a form that ``vmap`` batches in place of PyTorch's fused weight normalisation."""
    for owner in list(module.modules()):
        for name, child in list(owner.named_children()):
            if type(child) is _WeightNorm and child.dim != -1:
                setattr(owner, name, _Direction(child.dim))


def _without_dropouts(
    module: nn.Module, models: Sequence[nn.Module]
) -> dict[str, tuple[list[float], type[nn.Module]]]:
    """Put noise from outside in place of a template's dropouts; the members' rates and the kind of each, by name."""
    found: dict[str, tuple[list[float], type[nn.Module]]] = {}
    replaced: dict[int, nn.Module] = {}
    for name, child in list(module.named_modules(remove_duplicate=False)):
        if type(child) not in DROPOUTS:
            continue
        if not name:
            raise CannotPack("the network has no weights")
        if id(child) not in replaced:
            rates = [float(_rate(model.get_submodule(name))) for model in models]
            if max(rates) >= 1.0:
                raise CannotPack("a dropout drops everything")
            if any(rates):
                found[name] = rates, type(child)
            replaced[id(child)] = _Drop() if any(rates) else nn.Identity()
        path, _, own = name.rpartition(".")
        setattr(module.get_submodule(path), own, replaced[id(child)])
    return found


def _rate(dropout: Any) -> Any:
    return dropout.p


def _watched(
    module: nn.Module,
    rates: Mapping[str, tuple[list[float], type[nn.Module]]],
    sample: Tensor,
    arithmetic: Arithmetic | None,
) -> dict[str, tuple[Tensor, int]]:
    """Run the template on its own, to see its dropouts in the order of execution.

    Returns:
        By name, what each was called on, and how many trailing dimensions share a draw.

    Raises:
        CannotPack: the draws of a member cannot be made before the step, as they are made alone.
    """
    if len(sample) < 3:
        raise CannotPack("there are too few rows to try it on")
    probe = copy.deepcopy(module)
    drops = {name: probe.get_submodule(name) for name in rates}
    order: list[str] = []
    for name, drop in drops.items():
        assert isinstance(drop, _Drop)
        drop.noting = True
        drop.register_forward_pre_hook(lambda _, __, name=name: order.append(name))
    before = _random_state(sample.device)
    with torch.no_grad(), nullcontext() if arithmetic is None else arithmetic():
        try:
            for rows in (sample, sample[:-1]):
                probe(rows)
        except Exception as cause:  # anyone's module may raise anything
            raise CannotPack(f"it cannot run on a few rows: {first_line(cause)}") from cause
    if not torch.equal(before, _random_state(sample.device)):
        raise CannotPack("it draws random numbers other than by dropout")
    half = len(order) // 2
    if order[:half] != order[half:] or len(set(order)) != half:
        raise CannotPack("a dropout is called more than once")
    found = {}
    for name in order[:half]:
        drop = drops[name]
        assert isinstance(drop, _Drop)
        more, fewer = drop.seen
        by_row = (len(sample), *more.shape[1:]) == tuple(more.shape)
        if not by_row or tuple(fewer.shape) != (len(sample) - 1, *more.shape[1:]):
            raise CannotPack(f"the dropout '{name}' does not act on one row after another")
        if not more.is_contiguous():
            raise CannotPack(f"the dropout '{name}' acts on a transposed signal")
        features = DROPOUTS[rates[name][1]]
        if features and more.dim() != features + 2:
            raise CannotPack(f"the dropout '{name}' acts on {more.dim()} dimensions")
        found[name] = more, features
    return found


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def first_line(cause: Exception) -> str:
    """The first line of what an exception says."""
    return message_of(cause).strip().splitlines()[0]
