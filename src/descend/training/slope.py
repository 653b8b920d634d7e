"""Gradients of a chain's loss and of its Jacobian penalty, without a tape.

The penalty R = c Σ ‖v_iᵀ J(x_i)‖² is made of a sweep back through the layers, and its gradient of a sweep back
through that sweep. For a chain x_0 → f_1 → x_1 → ... → f_L → x_L both are written down:

1. back, g_L = v and g_(l-1) = J_lᵀ g_l, so that R = c Σ ‖g_0‖²;
2. forth, as the reverse of 1.: u_0 = 2 c g_0 and u_l = J_l u_(l-1), since J_lᵀ is linear in g_l. What J_lᵀ g_l
   depends on besides, the layer's weights and its input x_(l-1), gets the derivative of ⟨u_(l-1), J_lᵀ g_l⟩: for
   y = W x + b it is g_l u_(l-1)ᵀ by W and 0 by x; for an activation φ it is φ″(x) g_l u_(l-1) by x;
3. back again, for the loss: d_(l-1) = J_lᵀ d_l plus what 2. left at x_(l-1).

The gradient by a weight is d_l x_(l-1)ᵀ + g_l u_(l-1)ᵀ, which is one product of matrices with twice the rows. All in
all it is the products of two plain steps; two tapes need as many, and write and read them besides.

Source: Pearlmutter 1994, Fast exact multiplication by the Hessian; Hoffman, Roberts and Yaida 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.linalg.products import Library, is_large, product
from descend.regularization import JacobianPenalty, differentiable_inputs, jacobian_directions
from descend.training.chain import Chain, Rule

__all__ = ["SlopeChain"]


class SlopeRule(NamedTuple):
    """How one layer takes part in the sweeps at the head of this file.

    ``reverse(g, saved)`` is sweep 1: J_lᵀ g (p, n, ...) of p directions, and what the next sweep needs.
    ``tangent(u, kept, saved, wanted)`` is sweep 2: J_l u (p, n, ...), if ``wanted``, and what the layer's own
    dependence leaves for the last sweep. ``backward(d, saved, left, wanted)`` is sweep 3, which adds that; else it is
    as of :class:`descend.training.chain.Rule`, whose forward pass has made ``saved``.
    """

    reverse: Callable[[Tensor, Any], tuple[Tensor, Any]]
    tangent: Callable[[Tensor, Any, Any, bool], tuple[Tensor | None, Any]]
    backward: Callable[[Tensor, Any, Any, bool], tuple[Tensor | None, list[Tensor]]]


def _linear(layer: Any, library: Library) -> SlopeRule:
    weight = layer.weight.detach()
    transposed = weight.t()
    large = product(library)
    of_weight = torch.empty_like(weight)  # as the chain does, and for its reason

    def times(rows: Tensor, w: Tensor) -> Tensor:
        """Products rows wᵀ, of rows (p, n, ...)."""
        flat = rows.flatten(0, 1)
        found = large(flat, w, None) if large is not None and is_large(flat, w) else flat.mm(w.t())
        return found.view(*rows.shape[:2], -1)

    def reverse(g: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        return times(g, transposed), g

    def tangent(u: Tensor, g: Tensor, x: Tensor, wanted: bool) -> tuple[Tensor | None, Any]:
        return times(u, weight) if wanted else None, (g, u)

    def backward(d: Tensor, x: Tensor, left: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        g, u = left
        ends, starts = torch.cat([d, g.flatten(0, 1)]).t(), torch.cat([x, u.flatten(0, 1)])
        if large is not None and is_large(ends, starts.t()):
            found = large(ends, starts.t(), None)
        else:
            found = torch.mm(ends, starts, out=of_weight)
        return times(d.unsqueeze(0), transposed)[0] if wanted else None, [found, d.sum(0)]

    return SlopeRule(reverse, tangent, backward)


def _elementwise(rule: Rule, curvature: Callable[[Tensor], Tensor] | None) -> SlopeRule:
    """An activation, or another elementwise function with a diagonal Jacobian.

    Args:
        rule: whose derivative it is.
        curvature: φ″ as a function of what the rule saves, the layer's input or its output; None where it is 0.
    """

    def times(rows: Tensor, saved: Any) -> Tensor:
        found = rule.backward(rows, saved, True)[0]
        assert found is not None
        return found

    def reverse(g: Tensor, saved: Any) -> tuple[Tensor, Any]:
        return times(g, saved), None if curvature is None else g

    def tangent(u: Tensor, g: Any, saved: Any, wanted: bool) -> tuple[Tensor | None, Any]:
        return times(u, saved), None if curvature is None else curvature(saved) * (g * u).sum(0)

    def backward(d: Tensor, saved: Any, left: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        before = times(d, saved)
        return before if left is None else before + left, []

    return SlopeRule(reverse, tangent, backward)


def _norm(rule: Rule, layer: Any, run: Callable[[Tensor], Tensor]) -> SlopeRule:
    """A norm: its second derivatives are long and its work small, so a tape of it alone serves.

    Args:
        rule: whose first element of what it saves is the layer's input.
        layer: with a weight and a bias.
        run: the layer as a function of its input, without a change of its running averages.
    """

    def reverse(g: Tensor, saved: Any) -> tuple[Tensor, Any]:
        leaf, ends = saved[0].detach().requires_grad_(), g.detach().requires_grad_()
        with torch.enable_grad():
            y = run(leaf)
            before = torch.stack([torch.autograd.grad(y, leaf, end, create_graph=True)[0] for end in ends])
        return before.detach(), (leaf, ends, before)

    def tangent(u: Tensor, kept: Any, saved: Any, wanted: bool) -> tuple[Tensor | None, Any]:
        leaf, ends, before = kept
        after, bend, of_gain = torch.autograd.grad(before, (ends, leaf, layer.weight), u)
        return after, (bend, of_gain)

    def backward(d: Tensor, saved: Any, left: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        before, (of_gain, of_shift) = rule.backward(d, saved, wanted)
        assert before is not None
        return before + left[0], [of_gain + left[1], of_shift]

    return SlopeRule(reverse, tangent, backward)


def _flatten(rule: Rule) -> SlopeRule:
    def reverse(g: Tensor, shape: Any) -> tuple[Tensor, Any]:
        return g.reshape(len(g), *shape), g.shape

    def tangent(u: Tensor, shape: Any, saved: Any, wanted: bool) -> tuple[Tensor | None, Any]:
        return u.reshape(shape), None

    def backward(d: Tensor, shape: Any, left: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        return rule.backward(d, shape, wanted)

    return SlopeRule(reverse, tangent, backward)


def _of_gelu(layer: Any) -> Callable[[Tensor], Tensor]:
    if layer.approximate == "none":  # φ' = Φ + x N(x), with N the normal density
        return lambda x: (2.0 - x * x) * torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)

    def of_tanh(x: Tensor) -> Tensor:
        """Of x (1 + tanh z)/2 with z = √(2/π) (x + a x³)."""
        scale, a = math.sqrt(2.0 / math.pi), 0.044715
        t = torch.tanh(scale * (x + a * x**3))
        slope, bend = scale * (1.0 + 3.0 * a * x * x), scale * 6.0 * a * x
        return (1.0 - t * t) * (slope + 0.5 * x * bend - x * t * slope * slope)

    return of_tanh


def _of_silu(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))


CURVATURES: Mapping[type[nn.Module], Callable[[Any], Callable[[Tensor], Tensor] | None]] = {
    nn.ReLU: lambda layer: None,
    nn.LeakyReLU: lambda layer: None,
    nn.Identity: lambda layer: None,
    nn.Dropout: lambda layer: None,
    nn.Tanh: lambda layer: lambda y: 2.0 * y * (y * y - 1.0),
    nn.Sigmoid: lambda layer: lambda y: y * (1.0 - y) * (1.0 - 2.0 * y),
    nn.GELU: _of_gelu,
    nn.SiLU: lambda layer: _of_silu,
    nn.ELU: lambda layer: lambda x: torch.where(x > 0, 0.0, layer.alpha * x.clamp_max(0.0).exp()),
}
"""φ″ of each elementwise layer, as a function of what its rule saves; None where it is 0."""


def _rule(layer: Any, rule: Rule, library: Library) -> SlopeRule | None:
    """The rule of a layer that a chain knows; None where it has none here."""
    kind = type(layer)
    if kind is nn.Linear:
        return _linear(layer, library)
    if kind in CURVATURES:
        return _elementwise(rule, CURVATURES[kind](layer))
    if kind is nn.BatchNorm1d:
        return _norm(
            rule, layer, lambda x: F.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
        )
    if kind is nn.LayerNorm:
        return _norm(
            rule,
            layer,
            lambda x: F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps),
        )
    return _flatten(rule) if kind is nn.Flatten else None


class SlopeChain:
    """A chain whose outputs' Jacobian is penalised, differentiated by hand.

    It holds the layers' own tensors, as :class:`descend.training.chain.Chain` does.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> penalty, x = JacobianPenalty(0.1, "exact"), torch.ones(5, 3)
    >>> chain = SlopeChain.of(model, penalty)
    >>> y, saved = chain.forward(x)
    >>> value, gradients = chain.backward(torch.zeros_like(y), y, saved)
    >>> x = x.requires_grad_()
    >>> expected = penalty(x, model(x), None)
    >>> expected.backward()
    >>> torch.allclose(value, expected), torch.allclose(gradients[0], model[0].weight.grad, atol=1e-6)
    (True, True)
    """

    def __init__(self, chain: Chain, rules: list[SlopeRule], penalty: JacobianPenalty) -> None:
        self._chain, self._rules, self._penalty = chain, rules, penalty
        self.parameters = chain.parameters

    @classmethod
    def of(cls, model: nn.Module, penalty: object, library: Library = "blas") -> SlopeChain | None:
        """The chain that a model is; None where it is not one, or the penalty is none of its Jacobian.

        Args:
            model: any module.
            penalty: what is added to the loss of each batch.
            library: multiplies large matrices.
        """
        chain = Chain.of(model, library) if type(penalty) is JacobianPenalty else None
        if chain is None or type(penalty) is not JacobianPenalty:
            return None
        rules = [
            found
            for layer, rule in zip(chain.layers, chain.rules, strict=True)
            if (found := _rule(layer, rule, library)) is not None
        ]
        return cls(chain, rules, penalty) if len(rules) == len(chain.rules) else None

    @property
    def hooked(self) -> bool:
        """Whether someone watches the layers now."""
        return self._chain.hooked

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """The outputs (n, K) in training mode, and what :meth:`backward` needs.

        Raises:
            UserError: the inputs are whole numbers.
        """
        return self._chain.forward(differentiable_inputs(x).detach())

    def backward(
        self, d: Tensor, outputs: Tensor, saved: list[Any], share: float | Tensor = 1.0
    ) -> tuple[Tensor, list[Tensor]]:
        """The penalty, and the derivatives of loss and penalty together by each parameter.

        Args:
            d: the derivative of the loss by the outputs, (n, K).
            outputs: (n, K), of :meth:`forward`.
            saved: likewise.
            share: by which the penalty is multiplied.

        Returns:
            The derivatives are valid until the next call, which may write to the same memory.
        """
        g, factor = jacobian_directions(outputs, self._penalty.projections)
        scale = self._penalty.strength * factor * share
        last, first = len(self._rules) - 1, self._chain.first
        kept: list[Any] = [None] * (last + 1)
        for place in range(last, -1, -1):
            g, kept[place] = self._rules[place].reverse(g, saved[place])
        value = scale * g.square().sum()
        u = 2.0 * scale * g
        for place, rule in enumerate(self._rules):
            after, kept[place] = rule.tangent(u, kept[place], saved[place], place < last)
            u = u if after is None else after
        gradients: list[Tensor] = []
        for place in range(last, first - 1, -1):
            before, of_layer = self._rules[place].backward(d, saved[place], kept[place], place > first)
            gradients[:0] = of_layer
            d = d if before is None else before
        return value, gradients
