"""Output activations, which map a network's raw outputs to values, probabilities or distributions.

A model returns raw outputs of shape (n, outputs). An output activation maps them to predictions:

=========== ============ ===================== =================================
name        map          link                  task
=========== ============ ===================== =================================
identity    R → R        ``"identity"``        regression
sigmoid     R → (0, 1)   ``"logit"``           binary classification
sine        R → [0, 1]   ``"arcsine"``         binary classification
softmax     R^K → Δ^K    ``"logit"``           classes, discrete distributions
=========== ============ ===================== =================================

``link`` names the inverse map. If it is ``"logit"``, raw outputs are logits, and a loss of form
``"logits"`` is computed directly from them: log σ(z) and log softmax(z) stay finite where the logarithm of a
rounded probability does not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn

from descend.cards import method

__all__ = ["OUTPUTS", "Identity", "Link", "Output", "Sigmoid", "Sine", "Softmax"]

Link = Literal["identity", "logit", "arcsine"]


class Output(nn.Module, ABC):
    """Base class of output activations; ``link`` names the inverse map."""

    link: ClassVar[Link]

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, outputs: Tensor) -> Tensor:
        """Map raw outputs to values, probabilities or distributions of the same shape."""


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


OUTPUTS: dict[str, Callable[..., Output]] = {
    "identity": Identity,
    "sigmoid": Sigmoid,
    "sine": Sine,
    "softmax": Softmax,
}
