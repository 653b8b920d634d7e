"""Initialization of the weights of a whole model by a scheme."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from descend.errors import UserError
from descend.nn.activations import gain as gain_of
from descend.nn.activations import is_activation
from descend.nn.members import BatchEnsembleLinear, MemberLinear
from descend.nn.whitening import Whitening

__all__ = ["Fan", "Fill", "fan", "initialize"]

Fill = Callable[[Tensor, float, Generator], None]
"""A scheme: a function that fills a weight in place, given the gain and the random generator."""

Fan = Literal["fan_in", "fan_out"]

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, MemberLinear)
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, Whitening)


def initialize(
    model: nn.Module,
    scheme: Fill | None,
    *,
    gain: float | None = None,
    generator: Generator,
    last_layer_gain: float = 1.0,
) -> None:
    """Initialize a model in place: weights by a scheme, biases 0, weights and biases of norms 1 and 0.

    Linear and convolutional layers are filled in the order of ``model.modules()``, each with the gain of the
    activation that follows it, the last one with ``last_layer_gain``. Random numbers are sampled on the generator's
    device, so that with a CPU generator the weights are the same on any device. Weight-normalized layers get v = W and
    g = ‖W‖. A layer with separate weights for each of several members is filled member by member. Other modules
    (embeddings, recurrent layers) and adapters keep their own initialization.

    Args:
        model: the network, changed in place.
        scheme: a scheme, which the functions in ``INITS`` return; None leaves the model unchanged.
        gain: one gain for all layers except the last; None determines the gain of each layer from the activation that
            follows it. Default None.
        generator: the random generator.
        last_layer_gain: the gain of the last layer. Default 1.

    Raises:
        UserError: the initial weight of a weight-normalized layer would be zero.

    Warns:
        UserWarning: the signal would shrink or grow by more than a factor of 1000 through the layers.

    >>> from descend.nn.init import orthogonal
    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> initialize(model, orthogonal(), generator=torch.Generator().manual_seed(0))
    >>> W = model[0].weight.detach(); torch.allclose(W.T @ W, 2 * torch.eye(2), atol=1e-5)
    True
    """
    if scheme is None:
        return
    modules = list(model.modules())
    positions = [index for index, module in enumerate(modules) if isinstance(module, _LAYERS)]
    growth = 1.0
    with torch.no_grad():
        for module in modules:
            if isinstance(module, _NORMS):
                _reset_norm(module)
            elif isinstance(module, BatchEnsembleLinear):
                module.bias.zero_()  # the shared weight is a layer of its own
        for position, following in pairwise([*positions, len(modules)]):
            layer = modules[position]
            last = following == len(modules)
            between = modules[position + 1 : following]
            natural = _gain_after(between)
            layer_gain = natural if gain is None else gain
            factor = _fill_layer(layer, scheme, last_layer_gain if last else layer_gain, generator)
            # A norm restores the scale, and the gain of the output layer is independent.
            if not last and not any(isinstance(module, _NORMS) for module in between):
                growth *= factor / natural
    if positions and not 1e-3 <= growth <= 1e3:
        verb = "shrinks" if growth < 1.0 else "grows"
        warnings.warn(
            f"init: the signal {verb} by about {growth:.1e} from the first layer to the last; "
            "a scheme that depends on the width ('kaiming_normal', 'orthogonal') preserves its magnitude",
            stacklevel=2,
        )


def _fill_layer(layer: nn.Module, scheme: Fill, gain: float, generator: Generator) -> float:
    """Fill one layer, and return the factor by which it multiplies the root mean square of a signal."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    fresh = torch.empty(weight.shape, dtype=weight.dtype, device=generator.device)
    for matrix in fresh if isinstance(layer, MemberLinear) else [fresh]:
        scheme(matrix, gain, generator)
    if nn.utils.parametrize.is_parametrized(layer, "weight"):
        weight_normalized = hasattr(layer.get_submodule("parametrizations.weight"), "original1")
        if weight_normalized and not fresh.flatten(1).any(1).all():
            raise UserError(
                "a weight-normalized layer cannot be initialized with zero weights, where w = g v/||v|| is undefined; choose "
                "another init or another norm"
            )
        layer.weight = fresh.to(weight.device)  # the parametrization computes its variables from the weight
    else:
        weight.copy_(fresh)
    if isinstance(layer.bias, Tensor):
        layer.bias.zero_()
    return float(fresh.square().mean().sqrt()) * math.sqrt(fan(matrix, "fan_in"))


def _gain_after(between: list[nn.Module]) -> float:
    """Return the gain of the first activation among the modules between two layers; 1 if there is none."""
    return next((gain_of(module) for module in between if is_activation(module)), 1.0)


def _reset_norm(module: nn.Module) -> None:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        module.reset_parameters()
        return
    if isinstance(module.weight, Tensor):
        module.weight.fill_(1.0)
    if isinstance(module.bias, Tensor):
        module.bias.zero_()


def fan(weight: Tensor, mode: Fan) -> int:
    """Return d_in or d_out of a weight: a number of channels times the size of the kernel."""
    kernel = math.prod(weight.shape[2:])
    return max(1, (weight.shape[1] if mode == "fan_in" else weight.shape[0]) * kernel)
