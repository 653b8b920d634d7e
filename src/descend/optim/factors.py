"""Kronecker factors of layers of one shape, stacked: their averages, their damped inverses, and a step's directions.

The Fisher block of a matrix V (m, n) is taken as A ⊗ G, with

    A = E [Σ a aᵀ] (n, n),    G = E [mean s sᵀ] (m, m),

a sum and a mean over the vectors that belong to one prediction (Martens and Grosse 2015; for what shares a weight within a
row Grosse and Martens 2016, where slopes at different places are taken as uncorrelated). With D the gradient of V, the step is

    (G + √λ/π I)⁻¹ D (A + π√λ I)⁻¹,    π² = (tr A/n) / (tr G/m),

which is (A ⊗ G)⁻¹ with damping λ, split so that both factors are damped alike.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from descend.linalg import inverse_root
from descend.linalg.products import Product, is_large
from descend.optim.layers import Layer
from descend.optim.watching import Moments

__all__ = ["Factors", "stacks_of"]

_STATE = ("inputs", "slopes", "inputs_inverse", "slopes_inverse")


@final
class Factors:
    """The factors, inverses and momentum of layers of one shape, (k, ., .) each; a layer of g groups has g places in them.

    The state of a layer's weight holds its parts as views: ``inputs`` A (g, n, n), ``slopes`` G (g, m, m), ``inputs_inverse``,
    ``slopes_inverse``, and ``estimates``, the number of estimates that were averaged; ``momentum``, in its own shape, is in the
    state of the weight and of the bias. What is in the state already is copied into the stacks.

    Args:
        layers: of one shape, type and device.
        state: of the parameters.
        large: multiplies large matrices; None for torch's own product.
    """

    def __init__(
        self, layers: Sequence[Layer], state: MutableMapping[Any, Any], large: Product | None = None
    ) -> None:
        self.layers, self._state, self._large = list(layers), state, large
        weight, (m, n) = layers[0].weight, layers[0].shape
        kind = torch.promote_types(weight.dtype, torch.float32)
        k = sum(layer.groups for layer in layers)
        make = functools.partial(torch.zeros, dtype=kind, device=weight.device)
        sides = {"inputs": n, "slopes": m, "inputs_inverse": n, "slopes_inverse": m}
        self._stacks = {name: make(k, side, side) for name, side in sides.items()}
        self._gradient, self._momentum = make(k, m, n), make(k, m, n)
        self._directions: list[Tensor] = []
        self._places: dict[Layer, slice] = {}
        self._gradients: dict[Layer, list[Tensor]] = {}
        at = 0
        for layer in layers:
            self._places[layer] = place = slice(at, at + layer.groups)
            at += layer.groups
            self._gradients[layer] = layer.views(self._gradient[place])
            own = state[layer.weight]
            own.setdefault("estimates", 0)
            for name, stack in self._stacks.items():
                _settle(own, name, stack[place])
            for p, momentum in zip(layer.parameters, layer.views(self._momentum[place]), strict=True):
                _settle(state[p], "momentum", momentum)

    def estimates(self, layer: Layer) -> int:
        """How many estimates were averaged."""
        count: int = self._state[layer.weight]["estimates"]
        return count

    def learn(self, seen: Mapping[Layer, Moments], decay: float) -> None:
        """Average what was seen into the factors.

        The k-th estimate has the weight 1 − min(1 − 1/k, ``decay``): the first is taken as it is, a few are averaged evenly,
        and later the average forgets. So it is an average of estimates at all times, and of nothing else.
        """
        by_weight: dict[float, list[Layer]] = {}
        for layer in self.layers:
            if layer in seen:
                self._state[layer.weight]["estimates"] = count = self.estimates(layer) + 1
                by_weight.setdefault(1.0 - min(1.0 - 1.0 / count, decay), []).append(layer)
        for weight, layers in by_weight.items():
            for place, part in self._parts(layers):
                for name in ("inputs", "slopes"):
                    self._stacks[name][place].mul_(1.0 - weight)
                for layer in part:
                    found, own = seen[layer], self._state[layer.weight]
                    # Nothing is made on the way: for large factors that takes several times the time.
                    own["inputs"].add_(found.inputs, alpha=weight / found.predictions)
                    own["slopes"].add_(found.slopes, alpha=weight / found.vectors)

    def invert(self, damping: float) -> None:
        """Compute the damped inverses anew. Waits for the device once."""
        a, g = self._stacks["inputs"], self._stacks["slopes"]
        of_inputs, of_slopes = (each.diagonal(dim1=-2, dim2=-1).mean(-1) for each in (a, g))
        # Where nothing has come in, or no slope has come back (behind weights that start at zero), π has no meaning.
        known = (of_inputs > 0) & (of_slopes > 0)
        pi = torch.where(known, (of_inputs / of_slopes).sqrt(), 1.0)
        self._stacks["inputs_inverse"].copy_(inverse_root(a, 1, pi * damping**0.5))
        self._stacks["slopes_inverse"].copy_(inverse_root(g, 1, damping**0.5 / pi))

    def direct(self, layers: Sequence[Layer], rates: Mapping[Layer, float]) -> Tensor:
        """Compute the directions d of layers that have gradients g, to be used by :meth:`push`.

        Returns:
            Σ t² dᵀ g over these, with the ``rates`` t: what a step of length t changes predictions by, squared.
        """
        found = []
        self._directions = []
        for place, part in self._parts(layers):
            targets = [view for layer in part for view in self._gradients[layer]]
            gradients = [
                torch.zeros_like(p) if p.grad is None else p.grad for layer in part for p in layer.parameters
            ]
            torch._foreach_copy_(targets, gradients)
            gradient = self._gradient[place]
            direction = self._precondition(gradient, place)
            squares = [rates[layer] ** 2 for layer in part for _ in range(layer.groups)]
            if all(each == squares[0] for each in squares):
                found.append(torch.dot(gradient.flatten(), direction.flatten()) * squares[0])
            else:
                products = torch.linalg.vecdot(gradient.flatten(1), direction.flatten(1))
                found.append(torch.dot(products, products.new_tensor(squares)))
            self._directions.append(direction)
        return torch.stack(found).sum()

    def push(self, layers: Sequence[Layer], momentum: float, share: Tensor) -> None:
        """Momentum v ← μ v + ν d, with the directions d last computed and a ``share`` ν of them, ()."""
        for (place, _), direction in zip(self._parts(layers), self._directions, strict=True):
            self._momentum[place].mul_(momentum).addcmul_(direction, share)
        self._directions = []

    def _precondition(self, gradient: Tensor, place: slice) -> Tensor:
        left, right = self._stacks["slopes_inverse"][place], self._stacks["inputs_inverse"][place]
        if self._large is None or not is_large(gradient[0], right[0]):
            plain: Tensor = left @ (gradient @ right)
            return plain
        # x, w -> x wᵀ; the inverses are symmetric.
        rows = [
            self._large(g, self._large(r, d, None), None)
            for g, d, r in zip(left, gradient, right, strict=True)
        ]
        return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)

    def _parts(self, layers: Sequence[Layer]) -> Iterator[tuple[slice, list[Layer]]]:
        """Where layers are in the stacks: all at once if it is all of them, else one by one."""
        if len(layers) == len(self.layers):
            yield slice(None), self.layers
        else:
            yield from ((self._places[layer], [layer]) for layer in layers)


def stacks_of(
    layers: Sequence[Layer], state: MutableMapping[Any, Any], large: Product | None = None
) -> list[Factors]:
    """Layers in stacks of one shape, type and device, in the order in which these first occur."""
    groups: dict[tuple[Any, ...], list[Layer]] = {}
    for layer in layers:
        key = (layer.shape, layer.weight.dtype, layer.weight.device)
        groups.setdefault(key, []).append(layer)
    return [Factors(group, state, large) for group in groups.values()]


def _settle(state: MutableMapping[str, Any], name: str, place: Tensor) -> None:
    """Put what the state holds by a name into its place, and the place into the state."""
    if name in state:
        place.copy_(state[name])
    state[name] = place
