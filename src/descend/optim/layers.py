"""Layers that multiply by a weight, as matrices: what comes in, and the loss's slopes at what comes out.

A linear layer y = W x + b is one matrix V = [W b] on the input with a 1 below it. A convolution is the same matrix at every
location: x is then the patch that its kernel lies on, with padding, stride and dilation as the layer has them; a convolution in
g groups is g such matrices, each on channels of its own. So one form serves all:

======== ==================== ========================================================
inputs   (g, N, n)            each of N vectors that the matrix was multiplied with
slopes   (g, N, m)            the slope of the loss by each of the N products
weight   (g, m, n)            [W b], n counts the column of b
======== ==================== ========================================================

N counts rows and, within them, whatever shares the weight: locations of an image, positions of a sequence, the calls of
a module that is called several times.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast, final

from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Layer", "layers_of"]


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """A weight, and the bias that always goes with it, if one does.

    Args:
        name: of the first module that applies them.
        modules: all that do.
        weight: (m, n) of a linear layer, (g m, n', h, w) of a convolution.
        bias: (g m,), or None.
        groups: g.
    """

    name: str
    modules: tuple[nn.Module, ...]
    weight: nn.Parameter
    bias: nn.Parameter | None
    groups: int

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n) of a group's matrix, with the column of the bias."""
        rows = len(self.weight) // self.groups
        return rows, self.weight[0].numel() + (self.bias is not None)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weight, and the bias if there is one."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def inputs(self, module: nn.Module, x: Tensor) -> Tensor:
        """(g, N, n): the vectors that the matrix is multiplied with when a module of it is called with ``x``.

        >>> import torch
        >>> layer, = layers_of(nn.Conv2d(1, 1, 2), None)
        >>> layer.inputs(layer.modules[0], torch.arange(4.0).view(1, 1, 2, 2))
        tensor([[[0., 1., 2., 3., 1.]]])
        """
        if isinstance(module, nn.Conv2d):
            patches = _patches(module, x)
            b, _, places = patches.shape
            parts = patches.view(b, self.groups, -1, places).permute(1, 0, 3, 2)
            found = parts.reshape(self.groups, b * places, -1)
        else:
            found = x.reshape(1, -1, x.shape[-1])
        return found if self.bias is None else F.pad(found, (0, 1), value=1.0)

    def slopes(self, module: nn.Module, slope: Tensor) -> Tensor:
        """(g, N, m): the slope of the loss by what a module gave, vector by vector as in :meth:`inputs`."""
        if not isinstance(module, nn.Conv2d):
            return slope.reshape(1, -1, slope.shape[-1])
        b = 1 if slope.dim() == 3 else len(slope)
        parts = slope.reshape(b, self.groups, len(self.weight) // self.groups, -1).permute(1, 0, 3, 2)
        return parts.reshape(self.groups, -1, parts.shape[-1])

    def views(self, matrices: Tensor) -> list[Tensor]:
        """The parts of (g, m, n) that stand for weight and bias, in the shapes of these; nothing is copied."""
        rows = matrices.flatten(0, 1)
        columns = rows.shape[1] - (self.bias is not None)
        weight = rows[:, :columns].unflatten(1, self.weight.shape[1:])
        return [weight] if self.bias is None else [weight, rows[:, columns]]


def layers_of(model: nn.Module, parameters: Iterable[Tensor] | None) -> list[Layer]:
    """The ``Linear`` and ``Conv2d`` layers of a model whose weights are among some parameters.

    A weight that several modules hold is one layer. One that a module of another kind holds as well (an embedding, say) is
    left out: what that does with it is not a product. So is one that is computed from others, as by a parametrisation.

    Args:
        model: any module.
        parameters: that are trained; None for all.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Conv2d(4, 6, (1, 2), groups=2, bias=False))
    >>> [(layer.name, layer.groups, layer.shape) for layer in layers_of(model, None)]
    [('0', 1, (3, 3)), ('2', 2, (3, 4))]
    """
    trained = {id(p) for p in (model.parameters() if parameters is None else parameters)}
    holders: dict[int, list[tuple[str, nn.Module]]] = {}
    for name, module in model.named_modules():
        for p in module._parameters.values():
            if p is not None and id(p) in trained:
                holders.setdefault(id(p), []).append((name, module))
    found = []
    for name, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, (nn.Linear, nn.Conv2d)) else None
        if weight is None or id(weight) not in holders:
            continue
        sharing = [each for _, each in holders[id(weight)]]
        if sharing[0] is module and all(_alike(each, module) for each in sharing):
            bias = _common_bias(sharing, holders)
            found.append(Layer(name, tuple(sharing), weight, bias, getattr(module, "groups", 1)))
    return found


def _alike(module: nn.Module, other: nn.Module) -> bool:
    if isinstance(other, nn.Conv2d):
        return isinstance(module, nn.Conv2d) and module.groups == other.groups
    return isinstance(module, nn.Linear)


def _common_bias(
    sharing: Sequence[nn.Module], holders: dict[int, list[tuple[str, nn.Module]]]
) -> nn.Parameter | None:
    """The bias of modules that share a weight, if it is trained, theirs alone, and one."""
    biases = {id(each._parameters["bias"]): each._parameters["bias"] for each in sharing}
    if len(biases) > 1:
        return None
    ((key, bias),) = biases.items()
    alone = {id(each) for _, each in holders.get(key, ())} == {id(each) for each in sharing}
    return bias if alone else None


def _patches(module: nn.Conv2d, x: Tensor) -> Tensor:
    """(b, C h w, L): what the kernel lies on at each of L locations, all channels."""
    images = x.unsqueeze(0) if x.dim() == 3 else x
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(images, module._reversed_padding_repeated_twice, mode=mode)
    kernel = cast(tuple[int, int], module.kernel_size)
    return F.unfold(
        padded, kernel, cast(tuple[int, int], module.dilation), 0, cast(tuple[int, int], module.stride)
    )
