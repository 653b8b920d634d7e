"""Backpropagation through a chain of layers without autograd.

For a small network most of a training step is bookkeeping: the graph that automatic differentiation records and
traverses costs several times the arithmetic. The most common networks are chains, x -> f1 -> f2 -> ... -> loss, whose
gradient is a product of known Jacobians, evaluated from the loss backwards. A :class:`Chain` computes exactly this
product, with the same ATen kernels in the same order as autograd, so the bits agree, at a fraction of the cost. There
are two exceptions: large matrices may be multiplied by another library (:mod:`descend.linalg.products`), if it is
requested by name, and networks for images run in channels-last order (:mod:`descend.training.image_rules`), in which
sums have other rounding errors.

A model that is not a plain chain of supported layers has no :class:`Chain`, and the objective uses autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.linalg.products import Library, Product, is_large, product
from descend.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from descend.nn import (
    CategoryEmbedding,
    Dropout,
    LearnedCategories,
    LinearEmbedding,
    NumberEmbedding,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Scaling,
    TextEmbedding,
)
from descend.training.dropout_rules import dropout_rule, own_dropout_rule
from descend.training.image_rules import IMAGE_RULES, exchanged, is_image_chain, is_supported, relu_in_place
from descend.training.layer_rules import Rule, autograd_rule, rule_of_any
from descend.training.normalization_rules import batch_norm_rule, layer_norm_rule

__all__ = ["RULES", "Chain", "loss_and_derivative"]

aten = torch.ops.aten


def _linear(layer: Any, large: Product | None = None) -> Rule:
    weight, bias = layer.weight.detach(), layer.bias.detach()
    transposed = weight.t()
    # The gradient of the weight is written to the same memory at every step: allocating memory for a large one
    # takes up to a tenth of the step.
    weight_grad = torch.empty_like(weight)

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if large is not None and is_large(x, weight):
            return large(x, weight, bias), x
        return torch.addmm(bias, x, transposed), x

    def backward(d: Tensor, x: Tensor, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        if large is not None and is_large(x, weight):
            return large(d, transposed, None) if needs_input_grad else None, [
                large(d.t(), x.t(), None),
                d.sum(0),
            ]
        return d.mm(weight) if needs_input_grad else None, [torch.mm(d.t(), x, out=weight_grad), d.sum(0)]

    return Rule(forward, backward)


def _elementwise(
    run: Callable[[Tensor], Tensor], derivative: Callable[[Tensor, Tensor], Tensor], *, of_output: bool
) -> Rule:
    """Return the rule of an activation whose derivative is a function of its output, or else of its input."""

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        y = run(x)
        return y, y if of_output else x

    def backward(d: Tensor, saved: Tensor, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        return derivative(d, saved), []

    return Rule(forward, backward)


def _relu(layer: Any) -> Rule:
    derivative = aten.threshold_backward.default
    return _elementwise(torch.relu, lambda d, y: derivative(d, y, 0), of_output=True)


def _leaky_relu(layer: Any) -> Rule:
    slope, derivative = layer.negative_slope, aten.leaky_relu_backward.default
    return _elementwise(
        lambda x: F.leaky_relu(x, slope), lambda d, x: derivative(d, x, slope, False), of_output=False
    )


def _gelu(layer: Any) -> Rule:
    form, derivative = layer.approximate, aten.gelu_backward.default
    return _elementwise(
        lambda x: F.gelu(x, approximate=form),
        lambda d, x: derivative(d, x, approximate=form),
        of_output=False,
    )


def _elu(layer: Any) -> Rule:
    alpha, derivative = layer.alpha, aten.elu_backward.default
    return _elementwise(
        lambda x: F.elu(x, alpha), lambda d, x: derivative(d, alpha, 1.0, 1.0, False, x), of_output=False
    )


def _scaling(layer: Any) -> Rule:
    weight = layer.weight.detach()

    def backward(d: Tensor, x: Tensor, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        return d * weight if needs_input_grad else None, [(d * x).sum(0)]

    return Rule(lambda x: (x * weight, x), backward)


def _flatten(layer: Any) -> Rule:
    def forward(x: Tensor) -> tuple[Tensor, Any]:
        return x.flatten(layer.start_dim, layer.end_dim), x.shape

    def backward(d: Tensor, shape: Any, needs_input_grad: bool) -> tuple[Tensor | None, list[Tensor]]:
        return d.reshape(shape), []

    return Rule(forward, backward)


RULES: Mapping[type[nn.Module], Callable[[Any], Rule]] = {
    nn.Linear: _linear,
    nn.ReLU: _relu,
    nn.LeakyReLU: _leaky_relu,
    nn.Tanh: lambda layer: _elementwise(torch.tanh, aten.tanh_backward.default, of_output=True),
    nn.Sigmoid: lambda layer: _elementwise(torch.sigmoid, aten.sigmoid_backward.default, of_output=True),
    nn.GELU: _gelu,
    nn.SiLU: lambda layer: _elementwise(F.silu, aten.silu_backward.default, of_output=False),
    nn.ELU: _elu,
    nn.Identity: lambda layer: _elementwise(lambda x: x, lambda d, x: d, of_output=False),
    nn.Dropout: dropout_rule,
    Dropout: own_dropout_rule,
    nn.BatchNorm1d: batch_norm_rule,
    nn.LayerNorm: layer_norm_rule,
    nn.Flatten: _flatten,
    Scaling: _scaling,
    ParametricActivation: lambda layer: autograd_rule(layer),
    TextEmbedding: lambda layer: autograd_rule(layer),
    NumberEmbedding: lambda layer: rule_of_any(layer),
    CategoryEmbedding: lambda layer: rule_of_any(layer),
    **IMAGE_RULES,
}
"""The rule of each supported layer type, as a function of the layer."""


_PLAIN = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.SELU, nn.Mish, nn.Softplus)
"""Functions without random numbers or buffers, which a parametric activation may contain."""


def _is_supported(layer: nn.Module) -> bool:
    """Whether a layer's rule describes it: no hooks, no parametrization, no frozen or missing parameters."""
    if any(_hooks(layer)) or type(layer) not in RULES or not all(p.requires_grad for p in layer.parameters()):
        return False
    if type(layer) in IMAGE_RULES:
        return is_supported(layer)
    if isinstance(layer, nn.Linear):
        return layer.bias is not None
    if isinstance(layer, nn.BatchNorm1d):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.LayerNorm):
        return layer.elementwise_affine and layer.bias is not None
    if isinstance(layer, (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.ELU, nn.Dropout)):
        return not layer.inplace
    if isinstance(layer, ParametricActivation):
        return type(layer.function) in _PLAIN
    if isinstance(layer, NumberEmbedding):  # another embedding may use random numbers, or change its buffers
        return type(layer.embedding) in (LinearEmbedding, PeriodicEmbedding, PiecewiseLinearEmbedding)
    if isinstance(layer, CategoryEmbedding):
        return type(layer.embedding) is LearnedCategories
    return True


def _hooks(module: nn.Module) -> list[Mapping[int, Any]]:
    return [
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ]


def loss_and_derivative(
    loss: Callable[..., Tensor], outputs: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return the mean loss and its derivative with respect to the outputs, which must be detached.

    The common losses have derivatives in closed form, computed by the kernels that autograd would call; any other loss
    is differentiated by autograd.
    """
    if weights is None:
        # The types are compared exactly, since a subclass may compute something else.
        if type(loss) is CrossEntropy and loss.form == "logits" and targets.dim() == 1:
            return _cross_entropy(outputs, targets, loss.label_smoothing)
        if type(loss) is MeanSquaredError and outputs.shape == targets.shape:
            value = F.mse_loss(outputs, targets)
            return value, aten.mse_loss_backward.default(torch.ones_like(value), outputs, targets, 1)
        single = outputs.shape[1:] == (1,)
        if type(loss) is BinaryCrossEntropy and loss.form == "logits" and loss.pos_weight is None and single:
            if loss.label_smoothing:
                targets = targets * (1.0 - loss.label_smoothing) + 0.5 * loss.label_smoothing
            value = F.binary_cross_entropy_with_logits(outputs.squeeze(1), targets)
            return value, ((outputs.squeeze(1).sigmoid() - targets) / len(targets)).unsqueeze(1)
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        value = loss(leaf, targets, weights)
        (derivative,) = torch.autograd.grad(value, leaf)
    return value.detach(), derivative


def _cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    logs = torch._log_softmax(outputs, 1, False)
    if smoothing == 0.0:
        value, weight = aten.nll_loss_forward.default(logs, targets, None, 1, -100)
        d = aten.nll_loss_backward.default(torch.ones_like(value), logs, targets, None, 1, -100, weight)
        return value, torch._log_softmax_backward_data(d, logs, 1, outputs.dtype)
    # With q = (1 - a) onehot + a/K the loss is -sum q log p and its derivative is p - q, averaged over rows.
    rows, classes = outputs.shape
    value = F.nll_loss(logs, targets) * (1.0 - smoothing) - logs.sum(1).mean() * (smoothing / classes)
    d = logs.exp().sub_(smoothing / classes)
    d.scatter_add_(1, targets.unsqueeze(1), d.new_full((rows, 1), smoothing - 1.0))
    return value, d.div_(rows)


class Chain:
    """A sequence of supported layers with manual backpropagation.

    It refers to the layers' own tensors: after a module is moved or its parameters are replaced, build a new chain.

    Attributes:
        layers: in order.
        rules: of each layer.
        first: the index of the first layer with parameters.
        parameters: of all layers, in order.
        is_random: whether the forward pass uses PyTorch's random numbers.

    >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1))
    >>> chain = Chain.of(model)
    >>> x = torch.ones(2, 3)
    >>> y, saved = chain.forward(x)
    >>> gradients = chain.backward(torch.ones_like(y), saved)
    >>> model(x).sum().backward()
    >>> all(torch.equal(g, p.grad) for g, p in zip(gradients, model.parameters()))
    True
    """

    def __init__(
        self, layers: Sequence[nn.Module], rules: Sequence[Rule], model: nn.Module | None = None
    ) -> None:
        self.layers, self.rules = list(layers), list(rules)
        # Modules keep these dicts for their lifetime; `hooked` checks at every step whether one is non-empty.
        self._hooks = [
            hooks for each in (layers if model is None else model.modules()) for hooks in _hooks(each)
        ]
        self.first = next(
            (index for index, layer in enumerate(layers) if next(layer.parameters(), None) is not None), 0
        )
        self.parameters = [p for layer in layers for p in layer.parameters()]
        own_masks = self.parameters[0].device.type == "cpu"
        self.is_random = any(
            isinstance(layer, (nn.Dropout, nn.Dropout2d))
            and layer.p > 0
            and not (own_masks and type(layer) is Dropout)
            for layer in layers
        )

    @classmethod
    def of(cls, model: nn.Module, library: Library = "blas", *, in_place: bool = True) -> Chain | None:
        """Build the chain of a model; None where the model is not a chain of supported layers.

        Args:
            model: any module.
            library: the library that multiplies large matrices; with "blas" the bits are autograd's, except for
                networks for images.
            in_place: whether layers may overwrite derivatives that :meth:`backward` passes from layer to layer.
        """
        layers = _layers(model)
        if layers is None or not all(map(_is_supported, layers)) or not is_image_chain(layers):
            return None
        layers = exchanged(layers)
        parameters = [p for layer in layers for p in layer.parameters()]
        if len({id(p) for p in parameters}) != len(parameters) or not parameters:
            return None
        large = product(library)
        return cls(
            layers,
            [_rule(layers, place, large, in_place) for place in range(len(layers))],
            model,
        )

    @property
    def hooked(self) -> bool:
        """Whether the model has hooks now, which the chain would not call."""
        return any(self._hooks)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """Return the output in training mode, and what :meth:`backward` needs. Autograd records nothing."""
        saved = []
        for forward, _ in self.rules:
            x, needed = forward(x)
            saved.append(needed)
        return x, saved

    def backward(self, d: Tensor, saved: list[Any]) -> list[Tensor]:
        """Return the gradient of each parameter, given the derivative ``d`` of the loss with respect to the output.

        The gradients are valid until the next call, which may write to the same memory.
        """
        gradients: list[Tensor] = []
        for index in range(len(self.rules) - 1, self.first - 1, -1):
            input_grad, of_layer = self.rules[index].backward(d, saved[index], index > self.first)
            gradients[:0] = of_layer
            if input_grad is not None:
                d = input_grad
        return gradients


def _rule(layers: Sequence[nn.Module], place: int, large: Product | None, in_place: bool) -> Rule:
    layer = layers[place]
    if type(layer) is nn.Linear:
        return _linear(layer, large)
    inside = in_place and 0 < place < len(layers) - 1
    if type(layer) is Dropout and inside:
        between = type(layers[place - 1]) is nn.ReLU and type(layers[place + 1]) is nn.Linear
        return own_dropout_rule(layer, in_place=between)
    if type(layer) is nn.ReLU and inside and type(layers[place - 1]) in IMAGE_RULES:
        return relu_in_place()
    return RULES[type(layer)](layer)


def _layers(model: nn.Module) -> list[nn.Module] | None:
    """Return the layers of nested ``nn.Sequential`` modules in order; None where a container is something else."""
    if type(model) in RULES:
        return [model]
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return None
    layers: list[nn.Module] = []
    for child in model:
        inner = _layers(child)
        if inner is None:
            return None
        layers += inner
    return layers
