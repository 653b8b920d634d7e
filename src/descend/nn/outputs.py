"""Output activations, which map a network's raw outputs to values, probabilities or distributions.

A model returns raw outputs of shape (n, outputs). An output activation maps them to predictions:

======================= ============== ============================ ======================================
name                    map            link                         task
======================= ============== ============================ ======================================
identity                R → R          ``"identity"``               regression
sigmoid                 R → (0, 1)     ``"logit"``                  binary classification, labels
sine                    R → [0, 1]     ``"arcsine"``                binary classification, labels
softmax                 R^K → Δ^K      ``"logit"``                  classes, discrete distributions
exp                     R → (0, ∞)     ``"log"``                    counts, loss ``poisson``
gaussian_mean           R^2 → R        ``"gaussian"``               regression, loss ``gaussian``
negative_binomial_mean  R^2 → (0, ∞)   ``"negative_binomial"``      counts, loss ``negative_binomial``
middle_quantile         R^L → R        ``"quantiles"``              regression, loss ``quantile``, L levels
======================= ============== ============================ ======================================

The last four are chosen by the loss. Where a target has several raw outputs, these are blocks: those of the first kind
for all T targets, then those of the second kind, and the prediction is computed from one of them.

``link`` names the inverse map. If it is ``"logit"``, raw outputs are logits, and a loss of form
``"logits"`` is computed directly from them: log σ(z) and log softmax(z) stay finite where the logarithm of a
rounded probability does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from descend.cards import method

__all__ = [
    "OUTPUTS",
    "Exp",
    "GaussianMean",
    "Identity",
    "Link",
    "MiddleQuantile",
    "NegativeBinomialMean",
    "Output",
    "Sigmoid",
    "Sine",
    "Softmax",
    "inverse_positive",
    "positive",
    "rearranged",
]

Link = Literal["identity", "logit", "logits", "arcsine", "log", "gaussian", "negative_binomial", "quantiles"]
"""Links; ``"logits"`` is that of several labels, each with a logit of its own."""

FLOOR = 1e-6
"""Smallest variance or dispersion, which keeps the gradient of a likelihood finite."""


def positive(raw: Tensor) -> Tensor:
    """Return log(1 + exp z) + 1e-6: a variance or dispersion from a raw output z.

    >>> positive(torch.tensor([-100.0, 0.0, 100.0]))
    tensor([1.0000e-06, 6.9315e-01, 1.0000e+02])
    """
    return torch.nn.functional.softplus(raw) + FLOOR


def inverse_positive(value: Tensor) -> Tensor:
    """Return the raw output z with ``positive(z) = value``; for values at the floor, a very negative one.

    >>> round(inverse_positive(positive(torch.tensor(-3.0, dtype=torch.float64))).item(), 6)
    -3.0
    """
    excess = (value - FLOOR).clamp_min(torch.finfo(value.dtype).tiny)
    return excess + torch.log(-torch.expm1(-excess))


def rearranged(outputs: Tensor, levels: Sequence[float]) -> Tensor:
    """Return the quantiles (n, L, T) of raw outputs (n, L T), sorted so that those of higher levels are not smaller.

    Outputs for several levels may cross. Sorting those of a row never raises the sum of their pinball losses over the
    levels, whatever the target, and leaves quantiles that do not cross unchanged.

    Source: Chernozhukov, Fernández-Val and Galichon, "Quantile and probability curves without crossing", 2010.

    Args:
        outputs: those of the first level for all T targets, then those of the next ones.
        levels: the L levels, in any order, which is that of the result.

    >>> rearranged(torch.tensor([[1.0, 4.0, 3.0]]), (0.1, 0.5, 0.9)).squeeze(2)
    tensor([[1., 3., 4.]])
    """
    ascending = sorted(levels)
    ordered = outputs.unflatten(1, (len(ascending), -1)).sort(1).values
    return torch.stack([ordered[:, ascending.index(level)] for level in levels], 1)


class Output(nn.Module, ABC):
    """Base class of output activations; ``link`` names the inverse map."""

    link: ClassVar[Link]

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, outputs: Tensor) -> Tensor:
        """Map raw outputs to values, probabilities or distributions."""


@method(row="B9", reference="torch.nn.Identity", formula="y = z")
@final
class Identity(Output):
    """Identity: the raw outputs are the predictions, for unbounded targets.

    Shapes: (n, T) → (n, T).

    >>> Identity()(torch.tensor([[2.0]]))
    tensor([[2.]])
    """

    link = "identity"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the raw outputs."""
        return outputs


@method(
    row="B9",
    reference="torch.nn.Sigmoid",
    formula="y = 1 / (1 + exp(-z))",
    note="With bce the logistic function is fused into the loss, which then takes logits.",
)
@final
class Sigmoid(Output):
    """Logistic function: the probability of class 1 from one logit.

    Shapes: (n, 1) → (n, 1).

    >>> Sigmoid()(torch.zeros(1, 1))
    tensor([[0.5000]])
    """

    link = "logit"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return 1 / (1 + exp(−z))."""
        return torch.sigmoid(outputs)


@method(
    row="B9",
    reference="Sun 2025, Training DNNs",
    formula="y = (sin z + 1) / 2",
    note="It is periodic: many raw outputs map to one probability. There is no fused form: losses "
    "are computed from its probabilities.",
)
@final
class Sine(Output):
    """Sine output: the probability of class 1 is (sin z + 1) / 2.

    It does not saturate: the derivative cos(z)/2 vanishes only at isolated points.
    Shapes: (n, 1) → (n, 1).

    >>> Sine()(torch.zeros(1, 1))
    tensor([[0.5000]])
    """

    link = "arcsine"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return (sin z + 1) / 2."""
        return 0.5 * (torch.sin(outputs) + 1.0)


@method(
    row="B9",
    reference="torch.nn.Softmax",
    formula="y_i = exp(z_i) / sum_j exp(z_j)",
    note="With cross_entropy the softmax is fused into the loss, which then takes logits.",
)
@final
class Softmax(Output):
    """Softmax: a distribution over K classes, which is invariant to a constant added to a row.

    Shapes: (n, K) → (n, K), rows sum to 1.

    >>> Softmax()(torch.zeros(1, 4))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    link = "logit"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return exp(z_i) / Σ_j exp(z_j), over the last dimension."""
        return torch.softmax(outputs, dim=-1)


@method(
    row="K12",
    reference="McCullagh and Nelder 1989, Generalized linear models",
    formula="y = exp(z)",
    note="The inverse of the log link. It is chosen by the losses poisson and negative_binomial.",
)
@final
class Exp(Output):
    """Exponential function: a positive mean, such as that of counts, from its logarithm.

    Shapes: (n, T) → (n, T).

    >>> Exp()(torch.zeros(1, 1))
    tensor([[1.]])
    """

    link = "log"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return exp(z)."""
        return torch.exp(outputs)


@method(
    row="K12",
    reference="Nix and Weigend 1994",
    formula="y = z_1, the mean; the variance log(1 + exp z_2) + 1e-6 is not part of the prediction",
    note="It is chosen by the loss gaussian.",
)
@final
class GaussianMean(Output):
    """Mean of a normal distribution with a predicted mean and variance.

    Shapes: (n, 2T) → (n, T), the first T columns.

    >>> GaussianMean()(torch.tensor([[3.0, 0.5]]))
    tensor([[3.]])
    """

    link = "gaussian"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the means."""
        return outputs[:, : outputs.shape[1] // 2]


@method(
    row="K12",
    reference="Hilbe 2011, Negative binomial regression",
    formula="y = exp(z_1), the mean; the dispersion log(1 + exp z_2) + 1e-6 is not part of the prediction",
    note="It is chosen by the loss negative_binomial with a learned dispersion.",
)
@final
class NegativeBinomialMean(Output):
    """Mean of a negative binomial distribution with a predicted mean and dispersion.

    Shapes: (n, 2T) → (n, T).

    >>> NegativeBinomialMean()(torch.tensor([[0.0, 0.5]]))
    tensor([[1.]])
    """

    link = "negative_binomial"

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the means."""
        return torch.exp(outputs[:, : outputs.shape[1] // 2])


@method(
    row="K12",
    reference="Koenker and Bassett 1978",
    formula="y = z_(r), the r-th smallest of the outputs of L levels, r the rank of the level that is closest to 1/2",
    note="It is chosen by the loss quantile with several levels. Outputs that cross are sorted (Chernozhukov et al. 2010).",
)
@final
class MiddleQuantile(Output):
    """The predicted quantile whose level is closest to 1/2, among those of several levels.

    Outputs that cross are sorted first (:func:`rearranged`).
    Shapes: (n, L T) → (n, T).

    Args:
        levels: the L levels, in the order of the outputs. Default (0.1, 0.5, 0.9).

    >>> MiddleQuantile(levels=(0.1, 0.5, 0.9))(torch.tensor([[1.0, 2.0, 3.0]]))
    tensor([[2.]])
    """

    link = "quantiles"

    def __init__(self, *, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.middle = min(range(len(self.levels)), key=lambda at: abs(self.levels[at] - 0.5))

    def forward(self, outputs: Tensor) -> Tensor:
        """Return the quantiles of the middle level."""
        return rearranged(outputs, self.levels)[:, self.middle]


OUTPUTS: dict[str, Callable[..., Output]] = {
    "identity": Identity,
    "sigmoid": Sigmoid,
    "sine": Sine,
    "softmax": Softmax,
    "exp": Exp,
    "gaussian_mean": GaussianMean,
    "negative_binomial_mean": NegativeBinomialMean,
    "middle_quantile": MiddleQuantile,
}
"""Output activations by name."""
