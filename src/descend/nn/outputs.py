"""Output activations: from a network's raw outputs to values, probabilities or distributions.

A model ends with raw outputs of shape (n, outputs). An output activation turns them into what is predicted:

=========== ============ ===================== =================================
name        from, to     link                  for
=========== ============ ===================== =================================
identity    R → R        ``"identity"``        regression
sigmoid     R → (0, 1)   ``"logit"``           binary classification
sine        R → [0, 1]   ``"arcsine"``         binary classification
softmax     R^K → Δ^K    ``"logit"``           classes, discrete distributions
=========== ============ ===================== =================================

``link`` names the inverse map. Where it is ``"logit"``, raw outputs are logits, and a loss of form
``"logits"`` is computed from them directly: log σ(z) and log softmax(z) stay finite where the logarithm of a
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
    """An output activation; ``link`` names its inverse."""

    link: ClassVar[Link]

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, outputs: Tensor) -> Tensor:
        """Raw outputs to values, probabilities or distributions, in the same shape."""


@method(row="B9", reference="torch.nn.Identity", formula="y = z")
@final
class Identity(Output):
    """Raw outputs as they are, for unbounded targets.

    Shapes: (n, T) → (n, T).

    >>> Identity()(torch.tensor([[2.0]]))
    tensor([[2.]])
    """

    link = "identity"

    def forward(self, outputs: Tensor) -> Tensor:
        """The outputs themselves."""
        return outputs


@method(
    row="B9",
    reference="torch.nn.Sigmoid",
    formula="y = 1 / (1 + exp(-z))",
    note="With bce the logistic function is fused into the loss, which then takes logits.",
)
@final
class Sigmoid(Output):
    """Probability of class 1 from one logit.

    Shapes: (n, 1) → (n, 1).

    >>> Sigmoid()(torch.zeros(1, 1))
    tensor([[0.5000]])
    """

    link = "logit"

    def forward(self, outputs: Tensor) -> Tensor:
        """1 / (1 + exp(−z))."""
        return torch.sigmoid(outputs)


@method(
    row="B9",
    reference="Sun 2025, Training DNNs",
    formula="y = (sin z + 1) / 2",
    note="Periodic, so one probability has many raw outputs. No fused form exists: losses "
    "take its probabilities.",
)
@final
class Sine(Output):
    """Probability of class 1 as half a sine plus a half.

    It never saturates for long: the derivative cos(z)/2 vanishes only at single points.
    Shapes: (n, 1) → (n, 1).

    >>> Sine()(torch.zeros(1, 1))
    tensor([[0.5000]])
    """

    link = "arcsine"

    def forward(self, outputs: Tensor) -> Tensor:
        """(sin z + 1) / 2."""
        return 0.5 * (torch.sin(outputs) + 1.0)


@method(
    row="B9",
    reference="torch.nn.Softmax",
    formula="y_i = exp(z_i) / sum_j exp(z_j)",
    note="With cross_entropy the softmax is fused into the loss, which then takes logits.",
)
@final
class Softmax(Output):
    """A distribution over K classes; it is unchanged when a constant is added to a row.

    Shapes: (n, K) → (n, K), rows sum to 1.

    >>> Softmax()(torch.zeros(1, 4))
    tensor([[0.2500, 0.2500, 0.2500, 0.2500]])
    """

    link = "logit"

    def forward(self, outputs: Tensor) -> Tensor:
        """exp(z_i) / Σ_j exp(z_j), over the last dimension."""
        return torch.softmax(outputs, dim=-1)


OUTPUTS: dict[str, Callable[..., Output]] = {
    "identity": Identity,
    "sigmoid": Sigmoid,
    "sine": Sine,
    "softmax": Softmax,
}
