"""Stacking of K modules into one that runs them together, and extraction of single members.

Models can be stacked if they are chains of the same layers: same kinds, shapes and settings. They may differ in
dropout (its rates, and whether there is any), in their elementwise activations, and in the widths of hidden linear
layers, which are padded to the widest with units that stay zero.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.many.pack.category_embedding import PackedCategoryEmbedding
from descend.many.pack.kinds import DROPOUTS, ELEMENTWISE, POOLING, CannotPack, kind_of
from descend.many.pack.layers import (
    PackedActivations,
    PackedBatchNorm,
    PackedBranch,
    PackedConv,
    PackedDropout,
    PackedEmbedding,
    PackedGroupNorm,
    PackedLayerNorm,
    PackedLinear,
    PackedMask,
    PackedPooling,
    PackedShared,
    PackedSum,
)
from descend.many.pack.number_embedding import PackedNumberEmbedding
from descend.many.pack.padding import padded
from descend.many.pack.scaling import PackedParametricActivation, PackedScaling
from descend.nn import CategoryEmbedding, Dropout, NumberEmbedding, ParametricActivation, Scaling
from descend.nn.activations import Maxout
from descend.nn.residual import Residual

__all__ = ["Entry", "Stack", "can_be_padded", "signature", "stack", "widths_of"]

_WIDTHS_PASS = (nn.Linear, nn.BatchNorm1d, PackedBranch, PackedSum, *ELEMENTWISE)
"""Layers that are allowed where widths differ: only linear layers mix units."""


@dataclass(frozen=True)
class Entry:
    """One stacked tensor.

    Args:
        owner: the packed layer that holds it.
        name: its attribute there.
        names: its name in each member's state dict.
        shapes: its shape in each member; smaller than the stacked one's where widths are padded.
        trained: whether it is a parameter.
    """

    owner: nn.Module
    name: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    trained: bool

    @property
    def tensor(self) -> Tensor:
        """The stacked tensor, (K, …)."""
        tensor: Tensor = getattr(self.owner, self.name)
        return tensor


@dataclass
class _Chain:
    """A model as a chain: its layers with their names, and the dropout after each."""

    layers: list[tuple[str, nn.Module]]
    dropouts: dict[int, nn.Module]  # after the layer of this index; -1 before the first


class Stack:
    """K models, run as one.

    Args:
        layers: packed layers, in the order of execution.
        entries: all their tensors.
        members: the number of models K.

    >>> models = [nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)) for _ in range(5)]
    >>> stacked = stack(models)
    >>> stacked(torch.ones(5, 7, 3)).shape
    torch.Size([5, 7, 2])
    >>> all(torch.equal(stacked.state(3)[name], t) for name, t in models[3].state_dict().items())
    True
    """

    def __init__(self, layers: list[nn.Module], entries: list[Entry], members: int) -> None:
        self.network = nn.Sequential(*layers)
        self.entries = entries
        self.members = members

    def __call__(self, x: Tensor) -> Tensor:
        """Return the outputs (K, B, C) of inputs (K, B, …)."""
        y: Tensor = self.network(x)
        return y

    @property
    def dropouts(self) -> list[PackedDropout]:
        """Dropout layers, in the order of execution."""
        return [layer for layer in self.network if isinstance(layer, PackedDropout)]

    def state(self, member: int, tensors: Sequence[Tensor] | None = None) -> dict[str, Tensor]:
        """Return a state dict for the plain model of a member; tensors are copied.

        Args:
            member: its index in the stack.
            tensors: tensors to use instead of the stack's own, one for each entry.
        """
        result = {}
        for entry, own in zip(self.entries, tensors or [e.tensor for e in self.entries], strict=True):
            shape = entry.shapes[member]
            inside = own[member][tuple(slice(0, size) for size in shape)] if shape else own[member]
            result[entry.names[member]] = inside.detach().clone()
        return result

    def select(self, places: list[int]) -> Stack:
        """Return a stack of the members at these places, in this order; tensors are copied."""
        index = torch.tensor(places, device=self.entries[0].tensor.device)
        replacements: dict[int, nn.Module] = {}
        for layer in self.network:
            if isinstance(layer, PackedSum):
                branch = replacements[id(layer.branch)]
                assert isinstance(branch, PackedBranch)
                replacements[id(layer)] = PackedSum(branch)
            else:
                replacements[id(layer)] = _select(layer, places, index)
        entries = [
            Entry(
                replacements[id(entry.owner)],
                entry.name,
                tuple(entry.names[place] for place in places),
                tuple(entry.shapes[place] for place in places),
                entry.trained,
            )
            for entry in self.entries
        ]
        return Stack(list(replacements.values()), entries, len(places))


def _select(layer: nn.Module, places: list[int], index: Tensor) -> nn.Module:
    if isinstance(layer, PackedActivations):
        return PackedActivations(list(layer.kinds), [layer.of_member[place] for place in places])
    if isinstance(layer, PackedDropout):
        return layer.select(places)
    selected = copy.copy(layer)
    selected._parameters = {
        name: None if p is None else nn.Parameter(p.detach().index_select(0, index))
        for name, p in layer._parameters.items()
    }
    selected._buffers = {
        name: None if b is None else b.index_select(0, index) for name, b in layer._buffers.items()
    }
    return selected


def stack(models: Sequence[nn.Module]) -> Stack:
    """Stack models; the models keep their own tensors.

    Args:
        models: K plain modules on one device, of one dtype.

    Raises:
        CannotPack: the models are not chains of the same known layers.
    """
    chains = [_chain(model) for model in models]
    count = len(chains[0].layers)
    if any(len(chain.layers) != count for chain in chains):
        raise CannotPack("the networks have different numbers of layers")
    layers: list[nn.Module] = []
    entries: list[Entry] = []
    widths: list[int] = []  # of the signal; empty where all members have the same
    _add_dropout(layers, chains, -1)
    for place in range(count):
        each = [chain.layers[place][1] for chain in chains]
        if widths and not isinstance(each[0], _WIDTHS_PASS):
            raise CannotPack(f"the input widths of {type(each[0]).__name__} differ, and it cannot be padded")
        if widths and isinstance(each[0], nn.Linear):
            layers.append(PackedMask(widths))
        outputs = [layer.out_features for layer in each if isinstance(layer, nn.Linear)]
        if isinstance(each[0], (PackedBranch, PackedSum)):
            layers.append(_skip_layer(each[0], layers))
            _add_dropout(layers, chains, place)
            continue
        own, widths = (padded(each), outputs if len(set(outputs)) > 1 else []) if outputs else (each, widths)
        if widths and isinstance(each[0], nn.BatchNorm1d):
            own = padded(each)
        packed = _packed(own)
        layers.append(packed)
        inner = ""
        if isinstance(
            each[0], (NumberEmbedding, CategoryEmbedding)
        ):  # the packed layer holds the tensors of the embeddings
            each, inner = [layer.get_submodule("embedding") for layer in each], "embedding."
        for name, tensor in [*packed.named_parameters(recurse=False), *packed.named_buffers(recurse=False)]:
            entries.append(
                Entry(
                    packed,
                    name,
                    tuple(f"{chain.layers[place][0]}.{inner}{name}".lstrip(".") for chain in chains),
                    tuple(tuple(getattr(layer, name).shape) for layer in each),
                    isinstance(tensor, nn.Parameter),
                )
            )
        _add_dropout(layers, chains, place)
    if widths:
        raise CannotPack("the networks have different numbers of outputs")
    first = next(models[0].parameters())
    stacked = Stack(layers, entries, len(models))
    stacked.network.to(first.device, first.dtype)
    return stacked


def signature(model: nn.Module) -> tuple[Any, ...]:
    """Return what two models must share in order to be stacked; their widths may differ.

    Raises:
        CannotPack: the model is not a chain of known layers.
    """
    return tuple(kind_of(layer) for _, layer in _chain(model).layers)


def widths_of(model: nn.Module) -> tuple[int, ...]:
    """Return the widths between the linear layers of a chain, from its inputs to its outputs.

    >>> widths_of(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)))
    (3, 4, 2)
    """
    linear = [layer for _, layer in _chain(model).layers if isinstance(layer, nn.Linear)]
    return (*(layer.in_features for layer in linear[:1]), *(layer.out_features for layer in linear))


def can_be_padded(model: nn.Module) -> bool:
    """Return whether a chain can be padded to wider layers: only linear layers mix units.

    >>> can_be_padded(nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)))
    False
    """
    return all(
        isinstance(layer, (*_WIDTHS_PASS, nn.Flatten, CategoryEmbedding, NumberEmbedding, Scaling))
        for _, layer in _chain(model).layers
    )


def _chain(model: nn.Module) -> _Chain:
    chain = _Chain([], {})
    seen: set[int] = set()

    def visit(module: nn.Module, name: str) -> None:
        if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks:
            raise CannotPack(f"'{name or type(module).__name__}' has hooks")
        if type(module) is nn.Sequential:
            for child, inner in module.named_children():
                visit(inner, f"{name}.{child}" if name else child)
        elif type(module) is Residual:
            branch = PackedBranch()
            chain.layers.append((name, branch))
            visit(module.body, f"{name}.body" if name else "body")
            chain.layers.append((name, PackedSum(branch)))
        elif type(module) in DROPOUTS:
            rate, place = float(cast(Any, module).p), len(chain.layers) - 1
            if rate > 0.0:
                if place in chain.dropouts:
                    raise CannotPack("two dropout layers follow each other")
                chain.dropouts[place] = module
        else:
            kind_of(module)
            for parameter in module.parameters():
                if id(parameter) in seen:
                    raise CannotPack("layers share weights")
                if not parameter.requires_grad:
                    raise CannotPack("some weights are frozen")
                seen.add(id(parameter))
            chain.layers.append((name, module))

    visit(model, "")
    if not seen:
        raise CannotPack("the network has no weights")
    return chain


_PACKED: dict[type[nn.Module], Callable[[list[nn.Module]], nn.Module]] = {
    nn.Linear: PackedLinear,
    nn.Conv1d: PackedConv,
    nn.Conv2d: PackedConv,
    nn.BatchNorm1d: PackedBatchNorm,
    nn.BatchNorm2d: PackedBatchNorm,
    nn.LayerNorm: PackedLayerNorm,
    nn.GroupNorm: PackedGroupNorm,
    nn.Embedding: PackedEmbedding,
    nn.Flatten: lambda each: nn.Flatten(2),
    Maxout: lambda each: PackedShared(each[0]),
    Scaling: lambda each: PackedScaling(cast(list[Scaling], each)),
    ParametricActivation: lambda each: PackedParametricActivation(cast(list[ParametricActivation], each)),
    NumberEmbedding: lambda each: PackedNumberEmbedding(cast(list[NumberEmbedding], each)),
    CategoryEmbedding: lambda each: PackedCategoryEmbedding(cast(list[CategoryEmbedding], each)),
    **{kind: lambda each: PackedPooling(copy.deepcopy(each[0])) for kind in POOLING},
}


def _packed(each: list[nn.Module]) -> nn.Module:
    if len({kind_of(layer) for layer in each}) > 1:
        raise CannotPack(f"the settings of {type(each[0]).__name__} differ")
    if type(each[0]) in ELEMENTWISE:
        distinct: dict[str, nn.Module] = {}
        for layer in each:
            distinct.setdefault(repr(layer), layer)
        kinds = list(distinct)
        if len(kinds) == 1:
            return copy.deepcopy(each[0])
        return PackedActivations(
            [copy.deepcopy(layer) for layer in distinct.values()],
            [kinds.index(repr(layer)) for layer in each],
        )
    return _PACKED[type(each[0])](each)


def _skip_layer(layer: nn.Module, before: Sequence[nn.Module]) -> nn.Module:
    """Return a new branch, or the sum that closes the last open branch."""
    if isinstance(layer, PackedBranch):
        return PackedBranch()
    summed = {id(one.branch) for one in before if isinstance(one, PackedSum)}
    return PackedSum(
        next(one for one in reversed(before) if isinstance(one, PackedBranch) and id(one) not in summed)
    )


def _add_dropout(layers: list[nn.Module], chains: list[_Chain], place: int) -> None:
    each = [chain.dropouts.get(place) for chain in chains]
    kinds = {type(one) for one in each if one is not None}
    if len({DROPOUTS[kind] for kind in kinds}) > 1:
        raise CannotPack("some members drop single entries and others whole channels")
    if len(kinds) > 1:
        raise CannotPack("some members use nn.Dropout and others descend.nn.Dropout")
    if kinds:
        kind = kinds.pop()
        rates = [0.0 if one is None else float(cast(Any, one).p) for one in each]
        layers.append(PackedDropout(rates, DROPOUTS[kind], own_masks=kind is Dropout))
