"""Gradients of a chain of layers without a tape.

For a small network most of a step is bookkeeping: the tape that automatic differentiation writes and reads
costs several times the arithmetic. The networks people train most are chains, x -> f1 -> f2 -> ... -> loss, whose
gradient is the product of known Jacobians read from the end (backpropagation as it is taught). A
:class:`Chain` does exactly this, with the same ATen kernels in the same order that autograd would call, so the
bits agree, at a fraction of the cost. Only large matrices may be multiplied by another library
(:mod:`descend.linalg.products`), which is asked for by its name.

A model that is not a plain chain of known layers has no :class:`Chain`, and the objective uses autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from descend.linalg.products import Library, Product, is_large, product
from descend.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError

__all__ = ["RULES", "Chain", "Rule", "by_autograd", "derivative_of_loss", "known_layers"]

aten = torch.ops.aten
Forward = Callable[[Tensor], tuple[Tensor, Any]]
Backward = Callable[[Tensor, Any, bool], tuple[Tensor | None, list[Tensor]]]


class Rule(NamedTuple):
    """How one layer is run and differentiated.

    ``forward(x)`` gives the output and what the derivative needs; ``backward(d, saved, wanted)`` takes the
    derivative d of the loss by the output and gives that by the input (if ``wanted``) and those by the layer's
    parameters, in the order of ``layer.parameters()``.
    """

    forward: Forward
    backward: Backward


def _linear(layer: Any, large: Product | None = None) -> Rule:
    weight, bias = layer.weight.detach(), layer.bias.detach()
    transposed = weight.t()
    # The gradient of a large weight is written to the same memory at every step: fresh memory costs as much as
    # a tenth of the step.
    of_weight = torch.empty_like(weight)

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if large is not None and is_large(x, weight):
            return large(x, weight, bias), x
        return torch.addmm(bias, x, transposed), x

    def backward(d: Tensor, x: Tensor, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        if large is not None and is_large(x, weight):
            return large(d, transposed, None) if wanted else None, [large(d.t(), x.t(), None), d.sum(0)]
        return d.mm(weight) if wanted else None, [torch.mm(d.t(), x, out=of_weight), d.sum(0)]

    return Rule(forward, backward)


def _elementwise(
    run: Callable[[Tensor], Tensor], derivative: Callable[[Tensor, Tensor], Tensor], *, of_output: bool
) -> Rule:
    """An activation whose derivative is written in its output, or else in its input."""

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        y = run(x)
        return y, y if of_output else x

    def backward(d: Tensor, saved: Tensor, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
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


def _dropout(layer: Any) -> Rule:
    p: float = layer.p

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        if p == 0.0:
            return x, None
        if x.is_cuda:
            y, mask = torch.native_dropout(x, p, True)
            return y, (mask, 1.0 / (1.0 - p))
        noise = torch.empty_like(x).bernoulli_(1.0 - p).div_(1.0 - p)
        return x * noise, noise

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        if saved is None:
            return d, []
        if isinstance(saved, tuple):
            return aten.native_dropout_backward.default(d, *saved), []
        return d * saved, []

    return Rule(forward, backward)


def _batch_norm(layer: Any) -> Rule:
    gain, shift = layer.weight.detach(), layer.bias.detach()
    mean, variance, momentum, eps = layer.running_mean, layer.running_var, layer.momentum, layer.eps
    count = layer.num_batches_tracked
    derivative = aten.native_batch_norm_backward.default

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        count.add_(1)
        y, own_mean, own_scale = torch.native_batch_norm(x, gain, shift, mean, variance, True, momentum, eps)
        return y, (x, own_mean, own_scale)

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        x, own_mean, own_scale = saved
        before, of_gain, of_shift = derivative(
            d, x, gain, mean, variance, own_mean, own_scale, True, eps, [True, True, True]
        )
        return before, [of_gain, of_shift]

    return Rule(forward, backward)


def _layer_norm(layer: Any) -> Rule:
    gain, shift, shape, eps = (
        layer.weight.detach(),
        layer.bias.detach(),
        list(layer.normalized_shape),
        layer.eps,
    )
    derivative = aten.native_layer_norm_backward.default

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        y, mean, scale = torch.native_layer_norm(x, shape, gain, shift, eps)
        return y, (x, mean, scale)

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        x, mean, scale = saved
        before, of_gain, of_shift = derivative(d, x, shape, mean, scale, gain, shift, [True, True, True])
        return before, [of_gain, of_shift]

    return Rule(forward, backward)


def _flatten(layer: Any) -> Rule:
    def forward(x: Tensor) -> tuple[Tensor, Any]:
        return x.flatten(layer.start_dim, layer.end_dim), x.shape

    def backward(d: Tensor, shape: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
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
    nn.Dropout: _dropout,
    nn.BatchNorm1d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.Flatten: _flatten,
}


def by_autograd(
    layer: nn.Module, arithmetic: Callable[[], AbstractContextManager[object]] = nullcontext
) -> Rule:
    """The rule of any layer: autograd, on a tape of this layer alone.

    Args:
        layer: any module.
        arithmetic: what its forward pass runs in, such as autocast.
    """
    parameters = list(layer.parameters())

    def forward(x: Tensor) -> tuple[Tensor, Any]:
        leaf = x.detach()
        if leaf.is_floating_point():
            leaf.requires_grad_()
        with torch.enable_grad(), arithmetic():
            y = layer(leaf)
        return y.detach(), (leaf, y)

    def backward(d: Tensor, saved: Any, wanted: bool) -> tuple[Tensor | None, list[Tensor]]:
        leaf, y = saved
        found = torch.autograd.grad(y, [*([leaf] if wanted else []), *parameters], d.to(y.dtype))
        return (found[0], list(found[1:])) if wanted else (None, list(found))

    return Rule(forward, backward)


def known_layers() -> list[type[nn.Module]]:
    """Layer types that a :class:`Chain` can differentiate."""
    return list(RULES)


def _plain(layer: nn.Module) -> bool:
    """Whether the layer does just what its type says: no hooks, no reparametrisation, nothing left out."""
    if any(_hooks(layer)) or type(layer) not in RULES or not all(p.requires_grad for p in layer.parameters()):
        return False
    if isinstance(layer, nn.Linear):
        return layer.bias is not None
    if isinstance(layer, nn.BatchNorm1d):
        return layer.affine and layer.track_running_stats and layer.momentum is not None
    if isinstance(layer, nn.LayerNorm):
        return layer.elementwise_affine and layer.bias is not None
    if isinstance(layer, (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.ELU, nn.Dropout)):
        return not layer.inplace
    return True


def _hooks(module: nn.Module) -> list[Mapping[int, Any]]:
    return [
        module._forward_hooks,
        module._forward_pre_hooks,
        module._backward_hooks,
        module._backward_pre_hooks,
    ]


def derivative_of_loss(
    loss: Callable[..., Tensor], outputs: Tensor, targets: Tensor, weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The mean loss and its derivative by the outputs, which must be detached.

    The usual losses have closed derivatives, called here as autograd would; any other loss is differentiated by
    autograd, on a tape of its own few operations.
    """
    if weights is None:
        # Each type is matched exactly: a subclass may compute something else.
        if type(loss) is CrossEntropy and loss.form == "logits" and targets.dim() == 1:
            return _cross_entropy(outputs, targets, loss.label_smoothing)
        if type(loss) is MeanSquaredError and outputs.shape == targets.shape:
            value = F.mse_loss(outputs, targets)
            return value, aten.mse_loss_backward.default(torch.ones_like(value), outputs, targets, 1)
        if type(loss) is BinaryCrossEntropy and loss.form == "logits" and outputs.shape[1:] == (1,):
            if loss.label_smoothing:
                targets = targets * (1.0 - loss.label_smoothing) + 0.5 * loss.label_smoothing
            value = F.binary_cross_entropy_with_logits(outputs.squeeze(1), targets)
            return value, ((outputs.squeeze(1).sigmoid() - targets) / len(targets)).unsqueeze(1)
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        tape = loss(leaf, targets, weights)
        (derivative,) = torch.autograd.grad(tape, leaf)
    return tape.detach(), derivative


def _cross_entropy(outputs: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    logs = torch._log_softmax(outputs, 1, False)
    if smoothing == 0.0:
        value, weight = aten.nll_loss_forward.default(logs, targets, None, 1, -100)
        d = aten.nll_loss_backward.default(torch.ones_like(value), logs, targets, None, 1, -100, weight)
        return value, torch._log_softmax_backward_data(d, logs, 1, outputs.dtype)
    # With q = (1 - a) onehot + a/K the loss is -sum q log p and its derivative p - q, averaged over rows.
    rows, classes = outputs.shape
    value = F.nll_loss(logs, targets) * (1.0 - smoothing) - logs.sum(1).mean() * (smoothing / classes)
    d = logs.exp().sub_(smoothing / classes)
    d.scatter_add_(1, targets.unsqueeze(1), d.new_full((rows, 1), smoothing - 1.0))
    return value, d.div_(rows)


class Chain:
    """A sequence of known layers, differentiated by hand.

    It holds the layers' own tensors: after a module is moved or its parameters replaced, make a new one.

    Attributes:
        layers: in order.
        rules: of each layer.
        first: the place of the first layer with parameters.
        parameters: of all layers, in order.
        draws: whether the forward pass draws random numbers.

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
        # The dicts themselves, which modules keep for life: asked at every step whether one has become non-empty.
        self._hooks = [
            hooks for each in (layers if model is None else model.modules()) for hooks in _hooks(each)
        ]
        self.draws = any(isinstance(layer, nn.Dropout) and layer.p > 0 for layer in layers)
        self.first = next(
            (place for place, layer in enumerate(layers) if next(layer.parameters(), None) is not None), 0
        )
        self.parameters = [p for layer in layers for p in layer.parameters()]

    @classmethod
    def of(cls, model: nn.Module, library: Library = "blas") -> Chain | None:
        """The chain that a model is, or None where it is not one.

        Args:
            model: any module.
            library: multiplies large matrices; with "blas" the bits are autograd's.
        """
        layers = _layers(model)
        if layers is None or not all(map(_plain, layers)):
            return None
        parameters = [p for layer in layers for p in layer.parameters()]
        if len({id(p) for p in parameters}) != len(parameters) or not parameters:
            return None
        large = product(library)
        return cls(
            layers,
            [_linear(each, large) if type(each) is nn.Linear else RULES[type(each)](each) for each in layers],
            model,
        )

    @property
    def hooked(self) -> bool:
        """Whether someone has put a hook on the model since, which the chain would pass by."""
        return any(self._hooks)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Any]]:
        """The output in training mode, and what :meth:`backward` needs. Nothing is recorded by autograd."""
        saved = []
        for forward, _ in self.rules:
            x, kept = forward(x)
            saved.append(kept)
        return x, saved

    def backward(self, d: Tensor, saved: list[Any]) -> list[Tensor]:
        """Derivatives by each parameter, given the derivative ``d`` of the loss by the output.

        They are valid until the next call, which may write to the same memory.
        """
        gradients: list[Tensor] = []
        for place in range(len(self.rules) - 1, self.first - 1, -1):
            before, of_layer = self.rules[place].backward(d, saved[place], place > self.first)
            gradients[:0] = of_layer
            if before is not None:
                d = before
        return gradients


def _layers(model: nn.Module) -> list[nn.Module] | None:
    """The layers of nested ``nn.Sequential``s in order; None where a container is something else."""
    if type(model) in RULES:
        return [model]
    if type(model) is not nn.Sequential or model._forward_hooks or model._forward_pre_hooks:
        return None
    found: list[nn.Module] = []
    for child in model:
        inner = _layers(child)
        if inner is None:
            return None
        found += inner
    return found
