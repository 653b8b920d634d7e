"""Where to start: schemes that fill a weight, and the walk that applies one to a whole model.

A scheme is made by its constructor and called as ``fill(weight, gain, generator)``. For a weight of a linear
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

where g is the gain of the activation that follows (:func:`descend.nn.gain`). ``orthogonal`` gives Q with
orthonormal rows or columns, times g. ``zeros`` and ``constant`` are here to be measured against: all units of
a layer start, and stay, equal.
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
from descend.nn.geometric import geometric
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
"""Fills a weight in place, given the gain and the generator to draw from."""

Fan = Literal["fan_in", "fan_out"]


@method(
    row="E2",
    reference="Glorot and Bengio 2010; torch.nn.init.xavier_normal_",
    formula="W_ij ~ N(0, g^2 2 / (d_in + d_out))",
    note="The lecture derives it for the identity, g = 1; the gain of the activation multiplies it.",
)
def xavier_normal() -> Fill:
    """Normal weights whose variance balances the forward and the backward signal.

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
    note="The lecture derives it for the identity, g = 1; the gain of the activation multiplies it.",
)
def xavier_uniform() -> Fill:
    """Uniform weights with the variance of :func:`xavier_normal`.

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
    note="The lecture's variance 2/d_in is the rectifier's; another activation brings its own gain.",
)
def kaiming_normal(*, mode: Fan = "fan_in") -> Fill:
    """Normal weights whose variance keeps the size of the forward signal.

    Args:
        mode: ``"fan_in"`` keeps the signal, ``"fan_out"`` (variance g²/d_out) the gradient. Default
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
    note="The lecture's bound sqrt(6/d_in) is the rectifier's; another activation brings its own gain.",
)
def kaiming_uniform(*, mode: Fan = "fan_in") -> Fill:
    """Uniform weights with the variance of :func:`kaiming_normal`.

    Args:
        mode: ``"fan_in"`` keeps the signal, ``"fan_out"`` (variance g²/d_out) the gradient. Default
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
    row="E4",
    reference="Saxe, McClelland and Ganguli 2014; torch.nn.init.orthogonal_",
    formula="W = g Q, Q'Q = I or QQ' = I",
    note="A convolution's weight is taken as the matrix (d_out, d_in height width). Before maxout, "
    "whose layer is k times as wide as its units, a signal loses a factor sqrt(k).",
)
def orthogonal() -> Fill:
    """A uniformly random matrix with orthonormal columns, or rows where it has more columns than rows, times
    g.

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
    note="Bad on purpose: hidden weights have gradient 0 and never move.",
)
def zeros() -> Fill:
    """All weights zero: with W₂ = 0 the gradient of W₁ is W₂ᵀ(…) = 0, so hidden layers do not move. Warns.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fill = zeros()
    >>> "gradient zero" in str(caught[0].message)
    True
    """
    warnings.warn(
        "init 'zeros': every hidden weight has gradient zero and never moves; use it only to see that",
        stacklevel=2,
    )

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.zeros_(weight)

    return fill


@method(
    row="E1",
    reference="Sun 2025, Training DNNs",
    formula="W_ij = value",
    note="Bad on purpose: the units of a layer are equal and get equal gradients, so they stay equal.",
)
def constant(*, value: float = 0.01) -> Fill:
    """All weights equal: each layer is as good as one unit, for ever. Warns.

    Args:
        value: the weight. Default 0.01.

    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     fill = constant(value=1.0)
    >>> "stay equal" in str(caught[0].message)
    True
    """
    warnings.warn(
        "init 'constant': the units of a layer start equal, get equal gradients and stay equal; "
        "use it only to see that",
        stacklevel=2,
    )

    def fill(weight: Tensor, gain: float, generator: Generator) -> None:
        nn.init.constant_(weight, value)

    return fill


@method(
    row="E1",
    reference="torch.nn.init.normal_",
    formula="W_ij ~ N(0, std^2)",
    note="Not scaled to the width: the signal shrinks or grows by std sqrt(d_in) / g per layer.",
)
def normal(*, std: NonNegative = 0.01) -> Fill:
    """Normal weights of one standard deviation whatever the width.

    The signal is multiplied by about std·√d_in/g in each layer; :func:`initialize` warns when the product
    over the layers is beyond a factor of 1000.

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
    note="Leaves every parameter, biases as well, as the modules made it.",
)
def torch_default() -> None:
    """The modules' own initialisation, left as it is.

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
    """Initialise a model in place: weights by a scheme, biases 0, norms 1 and 0.

    Linear and convolutional layers are filled in the order of ``model.modules()``, each with the gain of the
    activation that follows it; the last one, which no activation follows, with ``last_layer_gain``. Numbers
    are drawn on the generator's device, so a CPU generator gives a model on any device the same start.
    Weight-normed layers get v = W and g = ‖W‖. Other modules (embeddings, recurrent layers) keep their own
    initialisation.

    Args:
        model: the network, changed in place.
        scheme: what an entry of ``INITS`` returns; None leaves the model as it is.
        gain: one gain for all layers but the last; None (the default) finds each layer's own.
        generator: where the random numbers come from.
        last_layer_gain: the gain of the last layer. Default 1.

    Raises:
        UserError: a weight-normed layer would get a weight of zero.

    Warns:
        UserWarning: the signal would shrink or grow by more than a factor of 1000 on its way through the
            layers.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    >>> initialize(model, orthogonal(), generator=torch.Generator().manual_seed(0))
    >>> W = model[0].weight.detach(); torch.allclose(W.T @ W, 2 * torch.eye(2), atol=1e-5)
    True
    """
    if scheme is None:
        return
    modules = list(model.modules())
    places = [index for index, module in enumerate(modules) if isinstance(module, _LAYERS)]
    growth = 1.0
    with torch.no_grad():
        for module in modules:
            if isinstance(module, _NORMS):
                _reset_norm(module)
        for place, following in pairwise([*places, len(modules)]):
            layer = modules[place]
            last = following == len(modules)
            between = modules[place + 1 : following]
            natural = _gain_after(between)
            chosen = natural if gain is None else gain
            size = _fill_layer(layer, scheme, last_layer_gain if last else chosen, generator)
            # A norm restores the size, and the output layer's is chosen by itself.
            if not last and not any(isinstance(module, _NORMS) for module in between):
                growth *= size / natural
    if places and not 1e-3 <= growth <= 1e3:
        verb = "shrinks" if growth < 1.0 else "grows"
        warnings.warn(
            f"init: the signal {verb} by about {growth:.1e} from the first layer to the last; "
            "a scheme that knows the width ('kaiming_normal', 'orthogonal') keeps its size",
            stacklevel=2,
        )


def _fill_layer(layer: nn.Module, scheme: Fill, gain: float, generator: Generator) -> float:
    """Fill one layer; the factor by which it multiplies the size of a signal."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    fresh = torch.empty(weight.shape, dtype=weight.dtype, device=generator.device)
    scheme(fresh, gain, generator)
    if nn.utils.parametrize.is_parametrized(layer, "weight"):
        normed = hasattr(layer.get_submodule("parametrizations.weight"), "original1")
        if normed and not fresh.flatten(1).any(1).all():
            raise UserError(
                "a weight-normed layer cannot start from zero weights: w = g v/||v|| has no direction there; choose "
                "another init or another norm"
            )
        layer.weight = fresh.to(weight.device)  # the parametrisation solves for its own variables
    else:
        weight.copy_(fresh)
    if isinstance(layer.bias, Tensor):
        layer.bias.zero_()
    return float(fresh.square().mean().sqrt()) * math.sqrt(_fan(fresh, "fan_in"))


def _gain_after(between: list[nn.Module]) -> float:
    """The gain of the first activation among the modules between two layers, and 1 where there is none."""
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
    """d_in or d_out of a weight: a channel count times the size of the kernel."""
    kernel = math.prod(weight.shape[2:])
    return max(1, (weight.shape[1] if mode == "fan_in" else weight.shape[0]) * kernel)
