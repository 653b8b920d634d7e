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

import torch
from torch import Generator, Tensor, nn

from descend.cards import method
from descend.nn._data_driven import data_driven
from descend.nn._initialize import Fan, Fill, fan, initialize
from descend.param_types import NonNegative

__all__ = [
    "INITS",
    "Fill",
    "constant",
    "data_driven",
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
            weight.normal_(0.0, gain / math.sqrt(fan(weight, mode)), generator=generator)

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
        bound = gain * math.sqrt(3.0 / fan(weight, mode))
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
    ...     warnings.simplefilter("always")
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
    ...     warnings.simplefilter("always")
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
    "data_driven": data_driven,
    "torch": torch_default,
}
