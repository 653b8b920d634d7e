"""Storage of K-FAC: the Kronecker factors, inverses, gradients and momenta of layers of equal shape, in stacks.

The formulas that K-FAC applies to these stacks are in :mod:`descend.optim._kfac`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from descend.optim.layers import Layer

__all__ = ["FactorStack", "stacks_of"]


@final
class FactorStack:
    """The factors, inverses, gradient and momentum of layers of equal shape; a layer of g groups has g consecutive entries.

    The state of a layer's weight holds its parts as views: ``input_moment`` A (g, n, n), ``gradient_moment`` G (g, m, m),
    ``input_inverse``, ``gradient_inverse``, and ``estimates``, the number of estimates in the averages. ``momentum`` is in the
    state of the weight and of the bias, in the shape of each. Values that the state already contains are copied into the stacks.

    Args:
        layers: layers of equal shape, dtype and device, with k matrices in all.
        state: the optimizer's state of each parameter.

    Attributes:
        input_moment: A, (k, n, n).
        gradient_moment: G, (k, m, m).
        input_inverse: the damped inverse of A, (k, n, n).
        gradient_inverse: the damped inverse of G, (k, m, m).
        gradient: D, (k, m, n), a buffer.
        momentum: v, (k, m, n).
    """

    def __init__(self, layers: Sequence[Layer], state: MutableMapping[Any, Any]) -> None:
        self.layers, self._state = list(layers), state
        weight, (m, n) = layers[0].weight, layers[0].shape
        dtype = torch.promote_types(weight.dtype, torch.float32)
        k = sum(layer.groups for layer in layers)
        zeros = functools.partial(torch.zeros, dtype=dtype, device=weight.device)
        self.input_moment, self.gradient_moment = zeros(k, n, n), zeros(k, m, m)
        self.input_inverse, self.gradient_inverse = zeros(k, n, n), zeros(k, m, m)
        self.gradient, self.momentum = zeros(k, m, n), zeros(k, m, n)
        self._places: dict[Layer, slice] = {}
        self._gradients: dict[Layer, list[Tensor]] = {}
        start = 0
        for layer in layers:
            self._places[layer] = place = slice(start, start + layer.groups)
            start += layer.groups
            self._gradients[layer] = layer.views(self.gradient[place])
            own = state[layer.weight]
            own.setdefault("estimates", 0)
            for name in ("input_moment", "gradient_moment", "input_inverse", "gradient_inverse"):
                _share(own, name, getattr(self, name)[place])
            for p, momentum in zip(layer.parameters, layer.views(self.momentum[place]), strict=True):
                _share(state[p], "momentum", momentum)

    def estimates(self, layer: Layer) -> int:
        """Return the number of estimates in the averages of a layer."""
        count: int = self._state[layer.weight]["estimates"]
        return count

    def count(self, layer: Layer) -> int:
        """Count one more estimate of a layer, and return the number."""
        self._state[layer.weight]["estimates"] = count = self.estimates(layer) + 1
        return count

    def moments(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Return A and G of a layer, (g, n, n) and (g, m, m), as views."""
        own = self._state[layer.weight]
        return own["input_moment"], own["gradient_moment"]

    def parts(self, layers: Sequence[Layer]) -> Iterator[tuple[slice, list[Layer]]]:
        """Yield where layers are in the stacks: all at once if these are all layers, otherwise one by one."""
        if len(layers) == len(self.layers):
            yield slice(None), self.layers
        else:
            yield from ((self._places[layer], [layer]) for layer in layers)

    def gather(self, place: slice, layers: Sequence[Layer]) -> Tensor:
        """Copy the gradients of the layers at a place into :attr:`gradient`, and return that part, (., m, n)."""
        targets = [view for layer in layers for view in self._gradients[layer]]
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for layer in layers for p in layer.parameters
        ]
        torch._foreach_copy_(targets, gradients)
        return self.gradient[place]


def stacks_of(layers: Sequence[Layer], state: MutableMapping[Any, Any]) -> list[FactorStack]:
    """Group layers into stacks of equal shape, dtype and device, in the order in which these first occur."""
    groups: dict[tuple[Any, ...], list[Layer]] = {}
    for layer in layers:
        key = (layer.shape, layer.weight.dtype, layer.weight.device)
        groups.setdefault(key, []).append(layer)
    return [FactorStack(group, state) for group in groups.values()]


def _share(state: MutableMapping[str, Any], name: str, view: Tensor) -> None:
    """Make a view of a stack the value of a state's key; a value that exists is copied into it."""
    if name in state:
        view.copy_(state[name])
    state[name] = view
