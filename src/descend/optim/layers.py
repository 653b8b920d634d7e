"""Linear and convolutional layers as matrices: their inputs, output gradients and weights in one common shape.

A linear layer y = W x + b is the matrix V = [W b] applied to the input with an appended 1. A convolution applies the same
matrix at every location; x is then the patch under its kernel, with the padding, stride and dilation of the layer. A
convolution in g groups is g such matrices, each on its own channels. All of them have the form

================ =========== ======================================================================
inputs           (g, N, n)   the N vectors that are multiplied by the matrix
output gradients (g, N, m)   the gradient of the loss with respect to each of the N products
weight           (g, m, n)   [W b]; n includes the column of b
================ =========== ======================================================================

N counts rows and, within a row, everything that shares the weight: locations of an image, positions of a sequence, repeated
calls of a module.
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
    """A weight and, if it is always used together with one bias, that bias.

    Args:
        name: name of the first module that applies them.
        modules: all modules that apply them.
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
        """Shape (m, n) of the matrix of one group, including the column of the bias."""
        rows = len(self.weight) // self.groups
        return rows, self.weight[0].numel() + (self.bias is not None)

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The weight, and the bias if there is one."""
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def inputs(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return the vectors, (g, N, n), that are multiplied by the matrix when a module of the layer is called with ``x``.

        >>> import torch
        >>> layer, = layers_of(nn.Conv2d(1, 1, 2), None)
        >>> layer.inputs(layer.modules[0], torch.arange(4.0).view(1, 1, 2, 2))
        tensor([[[0., 1., 2., 3., 1.]]])
        """
        if isinstance(module, nn.Conv2d):
            patches = _patches(module, x)
            b, _, places = patches.shape
            parts = patches.view(b, self.groups, -1, places).permute(1, 0, 3, 2)
            vectors = parts.reshape(self.groups, b * places, -1)
        else:
            vectors = x.reshape(1, -1, x.shape[-1])
        return vectors if self.bias is None else F.pad(vectors, (0, 1), value=1.0)

    def output_gradients(self, module: nn.Module, gradient: Tensor) -> Tensor:
        """Arrange the gradient with respect to a module's output as vectors, (g, N, m), in the order of :meth:`inputs`."""
        if not isinstance(module, nn.Conv2d):
            return gradient.reshape(1, -1, gradient.shape[-1])
        b = 1 if gradient.dim() == 3 else len(gradient)
        parts = gradient.reshape(b, self.groups, len(self.weight) // self.groups, -1).permute(1, 0, 3, 2)
        return parts.reshape(self.groups, -1, parts.shape[-1])

    def views(self, matrices: Tensor) -> list[Tensor]:
        """Return views of matrices (g, m, n) that correspond to the weight and the bias, in the shapes of these."""
        rows = matrices.flatten(0, 1)
        columns = rows.shape[1] - (self.bias is not None)
        weight = rows[:, :columns].unflatten(1, self.weight.shape[1:])
        return [weight] if self.bias is None else [weight, rows[:, columns]]


def layers_of(model: nn.Module, parameters: Iterable[Tensor] | None) -> list[Layer]:
    """Find the ``Linear`` and ``Conv2d`` layers of a model whose weights are among the given parameters.

    A weight that several modules share is one layer. A weight that is shared with a module of another kind, such as an
    embedding, is excluded, since that module does not multiply by it; so is a weight that is computed from other parameters by a
    parametrization.

    Args:
        model: any module.
        parameters: the trained parameters; None for all.

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
    layers = []
    for name, module in model.named_modules():
        weight = module._parameters.get("weight") if isinstance(module, (nn.Linear, nn.Conv2d)) else None
        if weight is None or id(weight) not in holders:
            continue
        sharing = [each for _, each in holders[id(weight)]]
        if sharing[0] is module and all(_same_kind(each, module) for each in sharing):
            bias = _common_bias(sharing, holders)
            layers.append(Layer(name, tuple(sharing), weight, bias, getattr(module, "groups", 1)))
    return layers


def _same_kind(module: nn.Module, other: nn.Module) -> bool:
    if isinstance(other, nn.Conv2d):
        return isinstance(module, nn.Conv2d) and module.groups == other.groups
    return isinstance(module, nn.Linear)


def _common_bias(
    sharing: Sequence[nn.Module], holders: dict[int, list[tuple[str, nn.Module]]]
) -> nn.Parameter | None:
    """Return the bias of modules that share a weight, if it is one trained parameter that no other module uses."""
    biases = {id(each._parameters["bias"]): each._parameters["bias"] for each in sharing}
    if len(biases) > 1:
        return None
    ((key, bias),) = biases.items()
    exclusive = {id(each) for _, each in holders.get(key, ())} == {id(each) for each in sharing}
    return bias if exclusive else None


def _patches(module: nn.Conv2d, x: Tensor) -> Tensor:
    """Return the patches of all channels under the kernel at each of L locations, (b, C h w, L)."""
    images = x.unsqueeze(0) if x.dim() == 3 else x
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padded = F.pad(images, module._reversed_padding_repeated_twice, mode=mode)
    kernel = cast(tuple[int, int], module.kernel_size)
    return F.unfold(
        padded, kernel, cast(tuple[int, int], module.dilation), 0, cast(tuple[int, int], module.stride)
    )
