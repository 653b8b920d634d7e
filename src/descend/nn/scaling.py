"""Layers with one learned factor for each entry of a row: a scaling layer, and parametric activations."""

from __future__ import annotations

from typing import cast, final

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.errors import UserError

__all__ = ["ParametricActivation", "Scaling"]


@method(
    row="K8",
    reference="Holzmüller, Grinsztajn and Steinwart 2024, Better by default: strong pre-tuned MLPs (RealMLP)",
    formula="y_j = s_j x_j, s_j = 1 at the start",
    note='Its learning rate is set by optimizer.groups = {"scale" = 6.0}; docs/tables.md has the values of RealMLP.',
)
@final
class Scaling(nn.Module):
    """Scaling layer: each entry of a row times a learned factor, a soft selection of the inputs.

    The next linear layer could learn the product itself. But its steps are as long for each input, while a single factor moves
    all weights of an input together, so that useless inputs are reduced and useful ones enlarged early.

    Shapes: (n, d) → (n, d).

    Args:
        features: d.

    >>> Scaling(2)(torch.tensor([[3.0, 4.0]])).tolist()
    [[3.0, 4.0]]
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return s_j x_j."""
        return x * self.weight

    def extra_repr(self) -> str:
        """Return the size, for the summary of a model."""
        return f"{len(self.weight)}"


@method(
    row="K8",
    reference="Holzmüller, Grinsztajn and Steinwart 2024, Better by default: strong pre-tuned MLPs (RealMLP)",
    formula="y_j = x_j + a_j (f(x_j) - x_j), a_j = 1 at the start",
    note='Its learning rate is set by optimizer.groups = {"act*.weight" = 0.1}; docs/tables.md has the values of RealMLP.',
)
@final
class ParametricActivation(nn.Module):
    """Parametric activation: a learned mixture of an activation and the identity for each unit.

    y_j = x_j + α_j (f(x_j) − x_j) is f for α_j = 1, as at the start, and linear for α_j = 0.

    Shapes: (n, d) → (n, d).

    Args:
        function: the activation f, which acts elementwise.
        features: d.

    >>> layer = ParametricActivation(nn.ReLU(), 2)
    >>> _ = layer.weight.data.copy_(torch.tensor([1.0, 0.25]))
    >>> layer(torch.tensor([[-4.0, -4.0]])).tolist()
    [[0.0, -3.0]]
    """

    def __init__(self, function: nn.Module, features: int) -> None:
        super().__init__()
        if any(True for _ in function.parameters()):
            raise UserError(
                f"a parametric activation has one parameter for each unit, and {type(function).__name__} has its own; choose "
                "another activation"
            )
        self.function = function
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return x_j + α_j (f(x_j) − x_j)."""
        return torch.addcmul(x, self.weight, cast(Tensor, self.function(x)) - x)

    def extra_repr(self) -> str:
        """Return the size, for the summary of a model."""
        return f"{len(self.weight)}"
