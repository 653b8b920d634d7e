"""Activation functions of hidden units, and the gain of each for weight initialization.

:data:`ACTIVATIONS` maps the names that recipes use to functions that build a module; :func:`activation` builds one by name.
An activation is applied element by element, f: R → R, except maxout, which takes the maximum over groups of k adjacent
features. All activations keep the batch dimension; all except maxout keep the shape.

**Gain.** Let the entries of z = W v be standard normal. A layer preserves the second moment of its inputs if
Var(W_ij) = g² / d_in with g² E[f(z)²] = 1 (Kaiming He et al. 2015 for the rectifier, where E[f²] = 1/2 and
g = √2). :func:`gain` returns g: PyTorch's published values for ``sigmoid`` (1), ``tanh`` (5/3), ``relu`` (√2),
``leaky_relu`` (√(2/(1+slope²))), ``selu`` (3/4) and ``identity`` (1), which are not all of this form, and
1/√E[f(z)²] for every other activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from descend.arguments import kind_of
from descend.cards import method
from descend.errors import UserError
from descend.nn.choice import Choice, choose
from descend.param_types import Count, NonNegative, Positive

__all__ = [
    "ACTIVATIONS",
    "Maxout",
    "activation",
    "elu",
    "gain",
    "gelu",
    "identity",
    "is_activation",
    "leaky_relu",
    "maxout",
    "relu",
    "selu",
    "sigmoid",
    "sign",
    "silu",
    "softplus",
    "tanh",
]


@method(
    row="B2",
    reference="torch.nn.Sigmoid",
    formula="f(x) = 1 / (1 + exp(-x))",
    note="It saturates at both ends, and its outputs are not centered: avoid it in hidden layers.",
)
def sigmoid() -> nn.Module:
    """Logistic function, from R onto (0, 1).

    Its derivative f(1 − f) is at most 1/4 and vanishes for large |x|, so gradients shrink through depth.

    >>> sigmoid()(torch.zeros(1))
    tensor([0.5000])
    """
    return nn.Sigmoid()


@method(
    row="B3",
    reference="torch.nn.Tanh",
    formula="f(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x))",
    note="It equals 2 sigmoid(2x) - 1: its outputs are centered, but it saturates as well.",
)
def tanh() -> nn.Module:
    """Hyperbolic tangent, from R onto (−1, 1); derivative 1 − f².

    >>> tanh()(torch.zeros(1))
    tensor([0.])
    """
    return nn.Tanh()


@method(
    row="B4", reference="torch.nn.ReLU", formula="f(x) = max(0, x)", note="At 0 the derivative used is 0."
)
def relu() -> nn.Module:
    """Rectified linear unit. It is cheap and does not saturate for x > 0; a unit with x < 0 on all rows is dead.

    >>> relu()(torch.tensor([-2.0, 3.0]))
    tensor([0., 3.])
    """
    return nn.ReLU()


@method(
    row="B5",
    reference="torch.nn.LeakyReLU",
    formula="f(x) = max(a x, x), a = 0.01",
    note="The default slope is PyTorch's 0.01; some texts use 0.1.",
)
def leaky_relu(*, negative_slope: NonNegative = 0.01) -> nn.Module:
    """Leaky rectified linear unit: a small slope for x < 0 prevents dead units.

    Args:
        negative_slope: a, the slope for x < 0. Default 0.01.

    >>> leaky_relu(negative_slope=0.1)(torch.tensor([-2.0, 3.0]))
    tensor([-0.2000,  3.0000])
    """
    return nn.LeakyReLU(negative_slope)


class Maxout(nn.Module):
    """Maximum over groups of ``k`` adjacent features: (n, d·k, …) → (n, d, …).

    y_j = max(x_{jk}, …, x_{jk+k−1}). After a linear layer with d·k outputs each y_j is the maximum of k affine
    maps, a learned convex piecewise linear function. At a tie, one of the maps receives the gradient.

    Args:
        k: the number of affine maps per unit. Default 2.

    Raises:
        UserError: k is below 1, or (when called) does not divide the number of features.

    >>> Maxout(2)(torch.tensor([[1.0, 5.0, -3.0, -4.0]]))
    tensor([[ 5., -3.]])

    Source: Goodfellow, Warde-Farley, Mirza, Courville and Bengio 2013, "Maxout Networks".
    """

    def __init__(self, k: int = 2) -> None:
        super().__init__()
        if k < 1:
            raise UserError(f"maxout: expected k >= 1 affine maps, got k = {k}")
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        """Return the maxima, (n, d·k, …) → (n, d, …)."""
        if x.shape[1] % self.k:
            raise UserError(f"maxout: k = {self.k} does not divide the {x.shape[1]} features of the input")
        return x.reshape(x.shape[0], -1, self.k, *x.shape[2:]).max(2).values

    def extra_repr(self) -> str:
        """Return ``k`` for the printed model."""
        return f"k={self.k}"


@method(
    row="B6",
    reference="Goodfellow et al. 2013",
    formula="f(x) = max(w_1'x + b_1, ..., w_k'x + b_k)",
    note="The layer before it needs k times as many outputs; the models of descend.nn add them.",
)
def maxout(*, k: Count = 2) -> nn.Module:
    """Maximum of k affine maps per unit; see :class:`Maxout`.

    Args:
        k: the number of affine maps. Default 2.

    >>> maxout(k=2)(torch.tensor([[1.0, 5.0]]))
    tensor([[5.]])
    """
    return Maxout(k)


@method(
    row="B7",
    reference="Clevert, Unterthiner and Hochreiter 2016; torch.nn.ELU",
    formula="f(x) = x for x > 0, a (exp(x) - 1) for x <= 0",
)
def elu(*, alpha: Positive = 1.0) -> nn.Module:
    """Exponential linear unit: smooth at 0 for α = 1, and bounded below by −α.

    Args:
        alpha: α, the negative of the limit for x → −∞. Default 1.

    >>> elu()(torch.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.0000])
    """
    return nn.ELU(alpha)


@method(
    row="B8",
    reference="Hendrycks and Gimpel 2016; torch.nn.GELU",
    formula="f(x) = x P(z <= x), z standard normal",
    note="The exact form with erf, not the tanh approximation.",
)
def gelu() -> nn.Module:
    """Gaussian error linear unit, x Φ(x).

    It is evaluated as this product, so infinite inputs give NaN.

    >>> gelu()(torch.tensor([1.0]))
    tensor([0.8413])
    """
    return nn.GELU()


@method(
    row="B8",
    reference="Elfwing, Uchibe and Doya 2018; torch.nn.SiLU",
    formula="f(x) = x / (1 + exp(-x))",
    note="Also called swish.",
)
def silu() -> nn.Module:
    """Sigmoid-weighted linear unit, x σ(x).

    It is evaluated as x / (1 + exp(−x)), so the value at −∞ is NaN, and the derivative at both infinities.

    >>> silu()(torch.tensor([1.0]))
    tensor([0.7311])
    """
    return nn.SiLU()


@method(
    row="B8",
    reference="Klambauer, Unterthiner, Mayr and Hochreiter 2017; torch.nn.SELU",
    formula="f(x) = l x for x > 0, l a (exp(x) - 1) for x <= 0; l = 1.0507, a = 1.6733",
    note="It is self-normalizing with Var(W_ij) = 1 / d_in; PyTorch's gain 3/4, used here, "
    "sacrifices that for more stable gradients.",
)
def selu() -> nn.Module:
    """Scaled exponential linear unit, with constants for which mean 0 and variance 1 are a fixed point.

    >>> selu()(torch.tensor([1.0]))
    tensor([1.0507])
    """
    return nn.SELU()


@method(row="B8", reference="torch.nn.Softplus", formula="f(x) = log(1 + exp(x))")
def softplus() -> nn.Module:
    """Softplus, a smooth rectifier that is positive everywhere; its derivative is the logistic function.

    >>> softplus()(torch.zeros(1))
    tensor([0.6931])
    """
    return nn.Softplus()


@method(
    row="B9",
    reference="torch.nn.Identity",
    formula="f(x) = x",
    note="A network with this activation is a linear map.",
)
def identity() -> nn.Module:
    """No activation: the layers form one linear map, whose rank is at most the smallest width.

    >>> identity()(torch.tensor([2.0]))
    tensor([2.])
    """
    return nn.Identity()


@method(
    row="B1",
    reference="Rosenblatt 1958",
    formula="f(x) = sign(x)",
    note="Rejected for gradient-based training: f' = 0 almost everywhere. The perceptron is trained by a "
    "rule that is not a gradient step: descend.optim.perceptron, with Novikoff's bound.",
)
def sign() -> nn.Module:
    """Sign function; rejected, because its derivative is zero almost everywhere.

    By the chain rule the gradient with respect to every weight before a sign is exactly zero, so no
    gradient-based optimizer can change these weights.

    Raises:
        UserError: always.

    >>> sign()  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    descend.errors.UserError: activation 'sign' cannot be trained by gradients: its derivative is zero ...
    """
    raise UserError(
        "activation 'sign' cannot be trained by gradients: its derivative is zero almost everywhere, so "
        "every weight before it has gradient zero and never changes; choose 'tanh' (a smooth sign) or 'relu'"
    )


ACTIVATIONS: dict[str, Callable[..., nn.Module]] = {
    "sigmoid": sigmoid,
    "tanh": tanh,
    "relu": relu,
    "leaky_relu": leaky_relu,
    "maxout": maxout,
    "elu": elu,
    "gelu": gelu,
    "silu": silu,
    "selu": selu,
    "softplus": softplus,
    "identity": identity,
    "sign": sign,
}


def activation(choice: Choice) -> nn.Module:
    """Return a new activation module from a name, a name with settings, or a constructor.

    Args:
        choice: ``"relu"``, ``{"name": "leaky_relu", "negative_slope": 0.2}`` or ``torch.nn.Mish``.

    Raises:
        UserError: the name or a setting is unknown, the name is ``"sign"``, or the constructor does not return a module.

    >>> activation({"name": "leaky_relu", "negative_slope": 0.2})
    LeakyReLU(negative_slope=0.2)
    """
    constructor, settings = choose(ACTIVATIONS, choice, "activation")
    module = constructor(**settings)
    if not isinstance(module, nn.Module):
        raise UserError(
            f"activation: expected a constructor of a torch.nn.Module, {constructor!r} returned {kind_of(module)}"
        )
    return module


_ELEMENTWISE = (
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LogSigmoid,
    nn.Mish,
    nn.PReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.Softplus,
    nn.Softsign,
)


def is_activation(module: nn.Module) -> bool:
    """Return whether the module is an activation whose :func:`gain` is known; ``Identity`` does not count.

    >>> is_activation(nn.ReLU()), is_activation(nn.Linear(1, 1))
    (True, False)
    """
    known = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.LeakyReLU, nn.SELU, Maxout, *_ELEMENTWISE)
    return isinstance(module, known)


def gain(activation_or_name: str | nn.Module) -> float:
    """Return the gain g of an activation, the factor that scales the initial weights of the layer before it.

    Var(W_ij) = g² / d_in preserves the second moment of the activations (see the docstring of this module). For maxout over
    k maps, E[max²] = ∫ z² k φ(z) Φ(z)^(k−1) dz, which is 1 for k = 2.

    Args:
        activation_or_name: a name in ``ACTIVATIONS`` (with its default settings), or a module that is applied element
            by element.

    Raises:
        UserError: the name is unknown, or is ``"sign"``.

    >>> round(gain("relu") ** 2, 6), round(gain("tanh"), 4), round(gain("gelu"), 4)
    (2.0, 1.6667, 1.5335)
    """
    module = activation(activation_or_name) if isinstance(activation_or_name, str) else activation_or_name
    if isinstance(module, nn.LeakyReLU):
        return nn.init.calculate_gain("leaky_relu", module.negative_slope)
    for kind, name in (
        (nn.Sigmoid, "sigmoid"),
        (nn.Tanh, "tanh"),
        (nn.ReLU, "relu"),
        (nn.SELU, "selu"),
        (nn.Identity, "linear"),
    ):
        if isinstance(module, kind):
            return nn.init.calculate_gain(name)  # type: ignore[arg-type]  # torch annotates a Literal
    return 1.0 / math.sqrt(_second_moment(module))


def _second_moment(module: nn.Module) -> float:
    """Return E[f(z)²] for z ~ N(0, 1), by the trapezoidal rule; its node 0 is where activations have their kinks."""
    z = torch.linspace(-12.0, 12.0, 24_001, dtype=torch.float64)
    density = torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    with torch.no_grad():
        if isinstance(module, Maxout):
            others_below = torch.special.ndtr(z) ** (module.k - 1)
            return float(torch.trapezoid(z * z * module.k * density * others_below, z))
        values = module(z)
        return float(torch.trapezoid(values * values * density, z))
