"""Backpropagation through a chain of layers whose Jacobian is penalized, without autograd.

The penalty R = c Σ ‖v_iᵀ J(x_i)‖² is computed by a backward pass through the layers, and its gradient by
differentiating that pass. For a chain x_0 → f_1 → x_1 → ... → f_L → x_L this takes three sweeps:

1. backward, g_L = v and g_(l-1) = J_lᵀ g_l, so that R = c Σ ‖g_0‖²;
2. forward, the reverse of sweep 1: u_0 = 2 c g_0 and u_l = J_l u_(l-1), since J_lᵀ g_l is linear in g_l. The product
   J_lᵀ g_l also depends on the layer's weights and on its input x_(l-1), which receive the derivative of
   ⟨u_(l-1), J_lᵀ g_l⟩: for y = W x + b it is g_l u_(l-1)ᵀ with respect to W and 0 with respect to x; for an activation
   φ it is φ″(x) g_l u_(l-1) with respect to x;
3. backward again, for the loss: d_(l-1) = J_lᵀ d_l plus the derivative that sweep 2 left at x_(l-1).

The gradient of a weight is d_l x_(l-1)ᵀ + g_l u_(l-1)ᵀ, computed as one matrix product with twice the rows. In total
this costs the matrix products of two ordinary steps. Differentiating twice with autograd needs as many, and records and
traverses graphs in addition.

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
from descend.nn import Dropout
from descend.regularization import JacobianPenalty, differentiable_inputs, jacobian_directions
from descend.training.chain import Chain
from descend.training.layer_rules import Rule

__all__ = ["JacobianChain"]


class JacobianRule(NamedTuple):
    """The three sweeps of the module's docstring for one layer.

    ``reverse(g, saved)`` is sweep 1: it returns J_lᵀ g (p, n, ...) for p directions, and what the next sweep needs.
    ``tangent(u, kept, saved, needs_output)`` is sweep 2: it returns J_l u (p, n, ...), if ``needs_output``, and the
    derivatives that sweep 3 adds. ``backward(d, saved, added, needs_input_grad)`` is sweep 3, which adds them; otherwise it
    is the ``backward`` of :class:`descend.training.chain.Rule`, whose forward pass returned ``saved``.
    """

    reverse: Callable[[Tensor, Any], tuple[Tensor, Any]]
    tangent: Callable[[Tensor, Any, Any, bool], tuple[Tensor | None, Any]]
    backward: Callable[[Tensor, Any, Any, bool], tuple[Tensor | None, list[Tensor]]]


def _linear(layer: Any, library: Library) -> JacobianRule:
    weight = layer.weight.detach()
    transposed = weight.t()
    large = product(library)
    weight_grad = torch.empty_like(weight)  # reused at every step, as in descend.training.chain

    def times(rows: Tensor, w: Tensor) -> Tensor:
        """Return the products rows wᵀ for rows (p, n, ...)."""
        flat = rows.flatten(0, 1)
        products = large(flat, w, None) if large is not None and is_large(flat, w) else flat.mm(w.t())
        return products.view(*rows.shape[:2], -1)

    def reverse(g: Tensor, x: Tensor) -> tuple[Tensor, Any]:
        return times(g, transposed), g

    def tangent(u: Tensor, g: Tensor, x: Tensor, needs_output: bool) -> tuple[Tensor | None, Any]:
        return times(u, weight) if needs_output else None, (g, u)

    def backward(
        d: Tensor, x: Tensor, added: Any, needs_input_grad: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        g, u = added
        output_rows, input_rows = torch.cat([d, g.flatten(0, 1)]).t(), torch.cat([x, u.flatten(0, 1)])
        if large is not None and is_large(output_rows, input_rows.t()):
            gradient = large(output_rows, input_rows.t(), None)
        else:
            gradient = torch.mm(output_rows, input_rows, out=weight_grad)
        return times(d.unsqueeze(0), transposed)[0] if needs_input_grad else None, [gradient, d.sum(0)]

    return JacobianRule(reverse, tangent, backward)


def _elementwise(rule: Rule, second_derivative: Callable[[Tensor], Tensor] | None) -> JacobianRule:
    """Return the rule of an activation, or of another elementwise function with a diagonal Jacobian.

    Args:
        rule: the rule with its first derivative.
        second_derivative: φ″ as a function of what the rule saves, the layer's input or its output; None where it is 0.
    """

    def times(rows: Tensor, saved: Any) -> Tensor:
        products = rule.backward(rows, saved, True)[0]
        assert products is not None
        return products

    def reverse(g: Tensor, saved: Any) -> tuple[Tensor, Any]:
        return times(g, saved), None if second_derivative is None else g

    def tangent(u: Tensor, g: Any, saved: Any, needs_output: bool) -> tuple[Tensor | None, Any]:
        added = None if second_derivative is None else second_derivative(saved) * (g * u).sum(0)
        return times(u, saved), added

    def backward(
        d: Tensor, saved: Any, added: Any, needs_input_grad: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        input_grad = times(d, saved)
        return input_grad if added is None else input_grad + added, []

    return JacobianRule(reverse, tangent, backward)


def _normalization(rule: Rule, layer: Any, run: Callable[[Tensor], Tensor]) -> JacobianRule:
    """Return the rule of a normalization layer by autograd: its second derivatives are long and cheap to compute.

    Args:
        rule: its rule, which saves the layer's input first.
        layer: with a weight and a bias.
        run: the layer as a function of its input, without updating its running averages.
    """

    def reverse(g: Tensor, saved: Any) -> tuple[Tensor, Any]:
        leaf, directions = saved[0].detach().requires_grad_(), g.detach().requires_grad_()
        with torch.enable_grad():
            y = run(leaf)
            products = torch.stack(
                [torch.autograd.grad(y, leaf, each, create_graph=True)[0] for each in directions]
            )
        return products.detach(), (leaf, directions, products)

    def tangent(u: Tensor, kept: Any, saved: Any, needs_output: bool) -> tuple[Tensor | None, Any]:
        leaf, directions, products = kept
        output, input_grad, weight_grad = torch.autograd.grad(products, (directions, leaf, layer.weight), u)
        return output, (input_grad, weight_grad)

    def backward(
        d: Tensor, saved: Any, added: Any, needs_input_grad: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        input_grad, (weight_grad, bias_grad) = rule.backward(d, saved, needs_input_grad)
        assert input_grad is not None
        return input_grad + added[0], [weight_grad + added[1], bias_grad]

    return JacobianRule(reverse, tangent, backward)


def _flatten(rule: Rule) -> JacobianRule:
    def reverse(g: Tensor, shape: Any) -> tuple[Tensor, Any]:
        return g.reshape(len(g), *shape), g.shape

    def tangent(u: Tensor, shape: Any, saved: Any, needs_output: bool) -> tuple[Tensor | None, Any]:
        return u.reshape(shape), None

    def backward(
        d: Tensor, shape: Any, added: Any, needs_input_grad: bool
    ) -> tuple[Tensor | None, list[Tensor]]:
        return rule.backward(d, shape, needs_input_grad)

    return JacobianRule(reverse, tangent, backward)


def _gelu_second_derivative(layer: Any) -> Callable[[Tensor], Tensor]:
    if (
        layer.approximate == "none"
    ):  # φ' = Φ(x) + x N(x), with N the density of the standard normal distribution
        return lambda x: (2.0 - x * x) * torch.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi)

    def tanh_approximation(x: Tensor) -> Tensor:
        """Return the second derivative of x (1 + tanh z)/2 with z = √(2/π) (x + a x³)."""
        scale, a = math.sqrt(2.0 / math.pi), 0.044715
        t = torch.tanh(scale * (x + a * x**3))
        dz, ddz = scale * (1.0 + 3.0 * a * x * x), scale * 6.0 * a * x
        return (1.0 - t * t) * (dz + 0.5 * x * ddz - x * t * dz * dz)

    return tanh_approximation


def _silu_second_derivative(x: Tensor) -> Tensor:
    s = torch.sigmoid(x)
    return s * (1.0 - s) * (2.0 + x * (1.0 - 2.0 * s))


SECOND_DERIVATIVES: Mapping[type[nn.Module], Callable[[Any], Callable[[Tensor], Tensor] | None]] = {
    nn.ReLU: lambda layer: None,
    nn.LeakyReLU: lambda layer: None,
    nn.Identity: lambda layer: None,
    nn.Dropout: lambda layer: None,
    Dropout: lambda layer: None,
    nn.Tanh: lambda layer: lambda y: 2.0 * y * (y * y - 1.0),
    nn.Sigmoid: lambda layer: lambda y: y * (1.0 - y) * (1.0 - 2.0 * y),
    nn.GELU: _gelu_second_derivative,
    nn.SiLU: lambda layer: _silu_second_derivative,
    nn.ELU: lambda layer: lambda x: torch.where(x > 0, 0.0, layer.alpha * x.clamp_max(0.0).exp()),
}
"""φ″ of each elementwise layer, as a function of what its rule saves; None where it is 0."""


def _rule(layer: Any, rule: Rule, library: Library) -> JacobianRule | None:
    """Return the rule of a layer that :class:`Chain` supports; None where this module does not support it."""
    kind = type(layer)
    if kind is nn.Linear:
        return _linear(layer, library)
    if kind in SECOND_DERIVATIVES:
        return _elementwise(rule, SECOND_DERIVATIVES[kind](layer))
    if kind is nn.BatchNorm1d:
        return _normalization(
            rule, layer, lambda x: F.batch_norm(x, None, None, layer.weight, layer.bias, True, 0.0, layer.eps)
        )
    if kind is nn.LayerNorm:
        return _normalization(
            rule,
            layer,
            lambda x: F.layer_norm(x, layer.normalized_shape, layer.weight, layer.bias, layer.eps),
        )
    return _flatten(rule) if kind is nn.Flatten else None


class JacobianChain:
    """A chain of layers with manual backpropagation of the loss plus a Jacobian penalty.

    It refers to the layers' own tensors, as :class:`descend.training.chain.Chain` does.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    >>> penalty, x = JacobianPenalty(0.1, "exact"), torch.ones(5, 3)
    >>> chain = JacobianChain.of(model, penalty)
    >>> y, saved = chain.forward(x)
    >>> value, gradients = chain.backward(torch.zeros_like(y), y, saved)
    >>> x = x.requires_grad_()
    >>> expected = penalty(x, model(x), None)
    >>> expected.backward()
    >>> torch.allclose(value, expected), torch.allclose(gradients[0], model[0].weight.grad, atol=1e-6)
    (True, True)
    """

    def __init__(self, chain: Chain, rules: list[JacobianRule], penalty: JacobianPenalty) -> None:
        self._chain, self._rules, self._penalty = chain, rules, penalty
        self.parameters = chain.parameters

    @classmethod
    def of(cls, model: nn.Module, penalty: object, library: Library = "blas") -> JacobianChain | None:
        """Build the chain of a model; None where it is not a chain, or the penalty is not a Jacobian penalty.

        Args:
            model: any module.
            penalty: the penalty added to the loss of each batch.
            library: the library that multiplies large matrices.
        """
        chain = Chain.of(model, library, in_place=False) if type(penalty) is JacobianPenalty else None
        if chain is None or type(penalty) is not JacobianPenalty:
            return None
        rules = [
            own
            for layer, rule in zip(chain.layers, chain.rules, strict=True)
            if (own := _rule(layer, rule, library)) is not None
        ]
        return cls(chain, rules, penalty) if len(rules) == len(chain.rules) else None

    @property
    def hooked(self) -> bool:
        """Whether the model has hooks now, which the chain would not call."""
        return self._chain.hooked

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """Return the outputs (n, K) in training mode, and what :meth:`backward` needs.

        Raises:
            UserError: the inputs are integers.
        """
        return self._chain.forward(differentiable_inputs(x).detach())

    def backward(
        self, d: Tensor, outputs: Tensor, saved: list[Any], share: float | Tensor = 1.0
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the penalty, and the gradient of the loss plus the penalty for each parameter.

        Args:
            d: the derivative of the loss with respect to the outputs, (n, K).
            outputs: (n, K), from :meth:`forward`.
            saved: likewise.
            share: a factor of the penalty.

        Returns:
            The gradients are valid until the next call, which may write to the same memory.
        """
        g, factor = jacobian_directions(outputs, self._penalty.projections)
        scale = self._penalty.strength * factor * share
        last, first = len(self._rules) - 1, self._chain.first
        kept: list[Any] = [None] * (last + 1)
        for index in range(last, -1, -1):
            g, kept[index] = self._rules[index].reverse(g, saved[index])
        value = scale * g.square().sum()
        u = 2.0 * scale * g
        for index, rule in enumerate(self._rules):
            output, kept[index] = rule.tangent(u, kept[index], saved[index], index < last)
            u = u if output is None else output
        gradients: list[Tensor] = []
        for index in range(last, first - 1, -1):
            input_grad, of_layer = self._rules[index].backward(d, saved[index], kept[index], index > first)
            gradients[:0] = of_layer
            d = d if input_grad is None else input_grad
        return value, gradients
