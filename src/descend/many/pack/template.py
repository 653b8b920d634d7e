"""The module that ``torch.vmap`` runs for all members of a pack.

Dropout layers become multiplications by noise that is passed in. The random samples of a member must then be known
before a step: each dropout is called once, in an order and on shapes that do not depend on the rows, and nothing else
uses random numbers. A trial run on a few rows checks this.
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
from descend.many.pack.kinds import DROPOUTS, CannotPack
from descend.many.pack.layers import PackedDropout
from descend.nn import Dropout
from descend.rng import forked

__all__ = ["Arithmetic", "Template", "first_line", "template_of", "tensors_of"]

Arithmetic = Callable[[], AbstractContextManager[object]]


class _Drop(nn.Module):
    """Replacement of a dropout layer: multiplies by noise that is set from outside, and can record its inputs."""

    noise: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.ones(()), persistent=False)
        self.inputs: list[Tensor] = []
        self.recording = False

    def forward(self, x: Tensor) -> Tensor:
        """Multiply by the noise in training mode; return x in evaluation mode."""
        if self.recording:
            self.inputs.append(x.detach())
        return x * self.noise if self.training else x


class _PlainWeightNorm(nn.Module):
    """Weight normalization g v/‖v‖ by plain operations; PyTorch's fused kernel has no batching rule for ``vmap``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, length: Tensor, direction: Tensor) -> Tensor:
        """Return the weight."""
        others = [d for d in range(direction.dim()) if d != self.dim]
        norm = torch.linalg.vector_norm(direction, dim=others, keepdim=True)
        return cast(Tensor, direction * (length / norm))


@dataclass(frozen=True)
class Template:
    """The module that is run for all members, and the names of its tensors.

    Args:
        module: a copy of the first member's module, whose own tensors are not used.
        trained: names of its trained parameters.
        held: names of its other tensors.
        state: for each key of the state dict, the name of its tensor in ``trained`` or ``held`` (a shared tensor has
            several keys).
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
    """Return a template for models of one structure, and their dropouts in the order of execution.

    Args:
        models: modules of equal structure.
        sample: rows (n, …), at least 3.
        arithmetic: context of the forward pass, e.g. autocast for mixed precision.

    Raises:
        CannotPack: a member's dropout noise cannot be sampled before the step as in its solo run.
    """
    for name, module in models[0].named_modules():
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            raise CannotPack(f"'{name or type(module).__name__}' has hooks")
    try:
        module = copy.deepcopy(models[0]).train()
    except Exception as cause:  # a user's module may raise anything
        raise CannotPack(f"the network cannot be copied: {first_line(cause)}") from cause
    names = _names(module)
    _replace_weight_norms(module)
    rates = _replace_dropouts(module, models)
    with forked(sample.device):
        order = _trace_dropouts(module, rates, sample, arithmetic)
    dropouts = []
    for name, (inputs, features) in order.items():
        of_members, kind = rates[name]
        dropout = PackedDropout(of_members, features, own_masks=kind is Dropout)
        dropout.shape, dropout.dtype = (len(models), *inputs.shape), inputs.dtype
        dropouts.append(dropout)
    return Template(module, *names, tuple(order)), dropouts


def _names(module: nn.Module) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, str]]:
    """Return names of trained tensors, names of other tensors, and the tensor name of each key of the state dict."""
    tensors = tensors_of(module)
    parameters = {name for name, p in module.named_parameters() if p.requires_grad}
    trained = tuple(name for name in tensors if name in parameters)
    held = tuple(name for name in tensors if name not in parameters)
    of_tensor = {id(t): name for name, t in tensors.items()}
    state: dict[str, str] = {}
    for name, value in module.state_dict(keep_vars=True).items():
        if id(value) not in of_tensor:
            raise CannotPack(f"'{name}' in its state dict is neither a parameter nor a buffer")
        state[name] = of_tensor[id(value)]
    return trained, held, state


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, each once."""
    return dict(itertools.chain(module.named_parameters(), module.named_buffers()))


def _replace_weight_norms(module: nn.Module) -> None:
    """Replace PyTorch's fused weight normalization by a form that ``vmap`` can batch."""
    for owner in list(module.modules()):
        for name, child in list(owner.named_children()):
            if type(child) is _WeightNorm and child.dim != -1:
                setattr(owner, name, _PlainWeightNorm(child.dim))


def _replace_dropouts(
    module: nn.Module, models: Sequence[nn.Module]
) -> dict[str, tuple[list[float], type[nn.Module]]]:
    """Replace the dropouts of a template by noise layers; return the members' rates and the kind of each, by name."""
    result: dict[str, tuple[list[float], type[nn.Module]]] = {}
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
                result[name] = rates, type(child)
            replaced[id(child)] = _Drop() if any(rates) else nn.Identity()
        path, _, own = name.rpartition(".")
        setattr(module.get_submodule(path), own, replaced[id(child)])
    return result


def _rate(dropout: Any) -> Any:
    return dropout.p


def _trace_dropouts(
    module: nn.Module,
    rates: Mapping[str, tuple[list[float], type[nn.Module]]],
    sample: Tensor,
    arithmetic: Arithmetic | None,
) -> dict[str, tuple[Tensor, int]]:
    """Run the template on a few rows, to observe its dropouts in the order of execution.

    Returns:
        By name, the input of each dropout, and the number of trailing dimensions that share one random value.

    Raises:
        CannotPack: the dropout noise of a member cannot be sampled before the step as in its solo run.
    """
    if len(sample) < 3:
        raise CannotPack("there are too few rows for a trial run")
    probe = copy.deepcopy(module)
    drops = {name: probe.get_submodule(name) for name in rates}
    order: list[str] = []
    for name, drop in drops.items():
        assert isinstance(drop, _Drop)
        drop.recording = True
        drop.register_forward_pre_hook(lambda _, __, name=name: order.append(name))
    before = _random_state(sample.device)
    with torch.no_grad(), nullcontext() if arithmetic is None else arithmetic():
        try:
            for rows in (sample, sample[:-1]):
                probe(rows)
        except Exception as cause:  # a user's module may raise anything
            raise CannotPack(f"it cannot run on a few rows: {first_line(cause)}") from cause
    if not torch.equal(before, _random_state(sample.device)):
        raise CannotPack("it uses random numbers outside of dropout layers")
    half = len(order) // 2
    if order[:half] != order[half:] or len(set(order)) != half:
        raise CannotPack("a dropout is called more than once")
    result = {}
    for name in order[:half]:
        drop = drops[name]
        assert isinstance(drop, _Drop)
        more, fewer = drop.inputs
        by_row = (len(sample), *more.shape[1:]) == tuple(more.shape)
        if not by_row or tuple(fewer.shape) != (len(sample) - 1, *more.shape[1:]):
            raise CannotPack(f"the first dimension of the input of dropout '{name}' is not the rows")
        if not more.is_contiguous():
            raise CannotPack(f"the input of dropout '{name}' is not contiguous")
        features = DROPOUTS[rates[name][1]]
        if features and more.dim() != features + 2:
            raise CannotPack(
                f"the input of dropout '{name}' has {more.dim()} dimensions instead of {features + 2}"
            )
        result[name] = more, features
    return result


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def first_line(cause: Exception) -> str:
    """Return the first line of an exception's message."""
    return message_of(cause).strip().splitlines()[0]
