"""Weight initialization: schemes that fill a weight, and :func:`initialize`, which applies one to a whole model.

Each function returns a scheme, which is called as ``fill(weight, gain, generator)``. For a weight of a linear
layer (d_out, d_in), or of a convolution (d_out, d_in/groups, height, width) with d_in and d_out each
multiplied by height·width, the entries are independent with mean 0 and

============== =====================================================
name           variance
============== =====================================================
xavier_*       g² · 2 / (d_in + d_out)
kaiming_*      g² / d_in  (g² = 2 for the rectifier)
geometric      g² / √(d_in d_out)
normal         std²
============== =====================================================

where g is the gain of the activation that follows (:func:`descend.nn.gain`). ``orthogonal`` returns g Q with
orthonormal rows or columns of Q. ``zeros`` and ``constant`` are negative examples for comparison: all units of a layer
are equal at the start and remain equal.

>>> from descend.nn import init, mlp
>>> model = mlp((4,), 3, hidden=(16,))
>>> init.initialize(model, init.kaiming_normal(), generator=torch.Generator().manual_seed(0))
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from descend.cards import method
from descend.errors import UserError
from descend.nn.activations import gain as gain_of
from descend.nn.activations import is_activation
from descend.nn.whitening import Whitening
from descend.param_types import NonNegative

__all__ = [
    "INITS",
    "Fill",
    "constant",
    "geometric",
    "initialize",
    "kaiming_normal",
    "kaiming_uniform",
    "normal",
    "orthogonal",
    "torch_default",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
]

Fill = Callable[[Tensor, float, Generator], None]
"""A scheme: a function that fills a weight in place, given the gain and the random generator."""

Fan = Literal["fan_in", "fan_out"]


@method(
    row="E2",
    reference="Glorot and Bengio 2010; torch.nn.init.xavier_normal_",
    formula="W_ij ~ N(0, g^2 2 / (d_in + d_out))",
    note="The original derivation is for the identity, g = 1; here the gain of the activation is a factor.",
)
def xavier_normal() -> Fill:
    """Xavier (Glorot) initialization: normal weights whose variance balances the forward and the backward signal.

    >>> W = torch.empty(2, 3)
    >>> xavier_normal()(W, 1.0, torch.Generator().manual_seed(0)); W.isfinite().all().item()
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.xavier_normal_(weight, gain=gain, generator=generator)

    return fill


@method(
    row="E2",
    reference="Glorot and Bengio 2010; torch.nn.init.xavier_uniform_",
    formula="W_ij ~ U(-a, a), a = g sqrt(6 / (d_in + d_out))",
    note="The original derivation is for the identity, g = 1; here the gain of the activation is a factor.",
)
def xavier_uniform() -> Fill:
    """Xavier (Glorot) initialization: uniform weights with the variance of :func:`xavier_normal`.

    >>> W = torch.empty(3, 3)
    >>> xavier_uniform()(W, 1.0, torch.Generator().manual_seed(0)); bool(W.abs().max() <= 1.0)
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.xavier_uniform_(weight, gain=gain, generator=generator)

    return fill


@method(
    row="E2",
    reference="He, Zhang, Ren and Sun 2015; torch.nn.init.kaiming_normal_",
    formula="W_ij ~ N(0, g^2 / d_in), g^2 = 2 for relu",
    note="The variance 2/d_in is that for the rectifier; other activations have other gains.",
)
def kaiming_normal(*, mode: Fan = "fan_in") -> Fill:
    """Kaiming (He) initialization: normal weights whose variance preserves the second moment of the activations.

    Args:
        mode: ``"fan_in"`` preserves the activations, ``"fan_out"`` (variance g²/d_out) the gradients. Default
            ``"fan_in"``.

    >>> W = torch.empty(2, 3)
    >>> kaiming_normal()(W, 2**0.5, torch.Generator().manual_seed(0)); W.isfinite().all().item()
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        with torch.no_grad():
            weight.normal_(0.0, gain / math.sqrt(_fan(weight, mode)), generator=generator)

    return fill


@method(
    row="E2",
    reference="He, Zhang, Ren and Sun 2015; torch.nn.init.kaiming_uniform_",
    formula="W_ij ~ U(-a, a), a = g sqrt(3 / d_in), g^2 = 2 for relu",
    note="The bound sqrt(6/d_in) is that for the rectifier; other activations have other gains.",
)
def kaiming_uniform(*, mode: Fan = "fan_in") -> Fill:
    """Kaiming (He) initialization: uniform weights with the variance of :func:`kaiming_normal`.

    Args:
        mode: ``"fan_in"`` preserves the activations, ``"fan_out"`` (variance g²/d_out) the gradients. Default
            ``"fan_in"``.

    >>> W = torch.empty(2, 3)
    >>> kaiming_uniform()(W, 1.0, torch.Generator().manual_seed(0)); bool(W.abs().max() <= 1.0)
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        bound = gain * math.sqrt(3.0 / _fan(weight, mode))
        with torch.no_grad():
            weight.uniform_(-bound, bound, generator=generator)

    return fill


@method(
    row="E3",
    reference="Defazio and Bottou 2019",
    formula="W_ij ~ N(0, c / sqrt(d_in d_out)), c = g^2, 2 for relu",
    note="c is the squared gain of the activation that follows, which is the paper's 2 for the rectifier.",
)
def geometric() -> Fill:
    """Geometric-mean initialization: normal weights with variance g²/√(d_in d_out).

    The variance is the geometric mean of g²/d_in, which preserves the forward signal, and g²/d_out, which preserves the
    gradients; Xavier initialization uses the harmonic mean. In a rectifier network the ratio of mean squared gradient to
    mean squared weight is then the same in every layer, for any widths, so that one learning rate changes all layers by
    the same relative amount.

    >>> W = torch.empty(2, 3)
    >>> geometric()(W, 2**0.5, torch.Generator().manual_seed(0)); W.isfinite().all().item()
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        kernel = math.prod(weight.shape[2:])
        fans = max(1, weight.shape[0] * weight.shape[1] * kernel**2)
        with torch.no_grad():
            weight.normal_(0.0, gain / fans**0.25, generator=generator)

    return fill


@method(
    row="E4",
    reference="Saxe, McClelland and Ganguli 2014; torch.nn.init.orthogonal_",
    formula="W = g Q, Q'Q = I or QQ' = I",
    note="The weight of a convolution is reshaped to the matrix (d_out, d_in height width). Before maxout, "
    "where a layer has k outputs per unit, the signal shrinks by a factor sqrt(k).",
)
def orthogonal() -> Fill:
    """Orthogonal initialization: a uniformly random matrix with orthonormal columns (or rows, if it is wide), times g.

    >>> W = torch.empty(4, 2)
    >>> orthogonal()(W, 1.0, torch.Generator().manual_seed(0))
    >>> torch.allclose(W.T @ W, torch.eye(2), atol=1e-6)
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.orthogonal_(weight, gain=gain, generator=generator)

    return fill


@method(
    row="E1",
    reference="Sun 2025, Training DNNs",
    formula="W = 0",
    note="A negative example: hidden weights have gradient 0 and never change.",
)
def zeros() -> Fill:
    """Zero weights: with W₂ = 0 the gradient of W₁ is W₂ᵀ(…) = 0, so hidden layers do not change. Emits a warning.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fill = zeros()
    >>> "gradient zero" in str(caught[0].message)
    True
    """
    warnings.warn(
        "init 'zeros': every hidden weight has gradient zero and never changes; use it only to demonstrate this",
        stacklevel=2,
    )

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.zeros_(weight)

    return fill


@method(
    row="E1",
    reference="Sun 2025, Training DNNs",
    formula="W_ij = value",
    note="A negative example: the units of a layer are equal and have equal gradients, so they remain equal.",
)
def constant(*, value: float = 0.01) -> Fill:
    """Equal weights: each layer remains equivalent to a single unit. Emits a warning.

    Args:
        value: the value of all weights. Default 0.01.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fill = constant(value=1.0)
    >>> "remain equal" in str(caught[0].message)
    True
    """
    warnings.warn(
        "init 'constant': the units of a layer are equal, have equal gradients and remain equal; "
        "use it only to demonstrate this",
        stacklevel=2,
    )

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.constant_(weight, value)

    return fill


@method(
    row="E1",
    reference="torch.nn.init.normal_",
    formula="W_ij ~ N(0, std^2)",
    note="It does not scale with the width: the signal shrinks or grows by std sqrt(d_in) / g per layer.",
)
def normal(*, std: NonNegative = 0.01) -> Fill:
    """Normal weights with the same standard deviation for all widths.

    The signal is multiplied by about std·√d_in/g in each layer; :func:`initialize` warns if the product
    over the layers is above 1000 or below 1/1000.

    Args:
        std: the standard deviation. Default 0.01.

    >>> W = torch.empty(2, 3)
    >>> normal(std=0.1)(W, 1.0, torch.Generator().manual_seed(0)); W.isfinite().all().item()
    True
    """

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.normal_(weight, 0.0, std, generator=generator)

    return fill


@method(
    row="E2",
    reference="torch.nn.Linear.reset_parameters",
    formula="W_ij, b_i ~ U(-1/sqrt(d_in), 1/sqrt(d_in))",
    note="It leaves all parameters, including biases, as the modules initialized them.",
)
def torch_default() -> None:
    """PyTorch's default initialization: return None, with which :func:`initialize` leaves the model unchanged.

    >>> torch_default() is None
    True
    """


INITS: dict[str, Callable[..., Fill | None]] = {
    "xavier_normal": xavier_normal,
    "xavier_uniform": xavier_uniform,
    "kaiming_normal": kaiming_normal,
    "kaiming_uniform": kaiming_uniform,
    "geometric": geometric,
    "orthogonal": orthogonal,
    "zeros": zeros,
    "constant": constant,
    "normal": normal,
    "torch": torch_default,
}

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
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
    g = ‖W‖. Other modules (embeddings, recurrent layers) keep their own initialization.

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
    scheme(fresh, gain, generator)
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
    return float(fresh.square().mean().sqrt()) * math.sqrt(_fan(fresh, "fan_in"))


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


def _fan(weight: Tensor, mode: Fan) -> int:
    """Return d_in or d_out of a weight: a number of channels times the size of the kernel."""
    kernel = math.prod(weight.shape[2:])
    return max(1, (weight.shape[1] if mode == "fan_in" else weight.shape[0]) * kernel)
