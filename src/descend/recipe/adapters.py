"""What a recipe may name beyond our own: losses and schedules of PyTorch's, and losses behind an output activation.

Each is given the face that the loop knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.losses import Loss

__all__ = ["ForeignLoss", "OnProbabilities", "TorchSchedule"]


class OnProbabilities(nn.Module):
    """A loss of probabilities behind an output activation that has no fused form."""

    def __init__(self, loss: Loss, output: nn.Module) -> None:
        super().__init__()
        self.loss, self.output = loss, output

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss of raw outputs."""
        return cast(Tensor, self.loss(self.output(outputs), targets, weights))

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row."""
        return self.loss.per_sample(self.output(outputs), targets)

    def trust(self, targets: Tensor) -> None:
        """Check targets once."""
        self.loss.trust(targets)

    def unsmoothed(self) -> OnProbabilities:
        """The loss as it is measured, without label smoothing."""
        return OnProbabilities(self.loss.unsmoothed(), self.output)


class ForeignLoss(nn.Module):
    """A loss by import path, called as PyTorch's are: ``loss(outputs, targets)`` gives a mean."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss; with weights the loss is called row by row and averaged with them."""
        shaped = targets.unsqueeze(1) if targets.is_floating_point() and targets.dim() == 1 else targets
        if weights is None:
            return self.loss(outputs, shaped)
        return torch.dot(self.per_sample(outputs, targets), weights) / weights.sum()

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Loss of each row."""
        shaped = targets.unsqueeze(1) if targets.is_floating_point() and targets.dim() == 1 else targets
        return torch.stack([self.loss(outputs[i : i + 1], shaped[i : i + 1]) for i in range(len(outputs))])

    def trust(self, targets: Tensor) -> None:
        """Nothing is known of its domain."""

    def unsmoothed(self) -> ForeignLoss:
        """Itself: nothing is known of its smoothing."""
        return self


class TorchSchedule:
    """A scheduler of PyTorch's, stepped once per training step, as a factor of the base rate."""

    def __init__(self, make: Callable[[torch.optim.Optimizer], Any]) -> None:
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        self._scheduler = make(self._optimizer)
        self._factors = [self._rate()]

    def _rate(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def factor(self, step: int) -> float:
        """The factor before a step. It is stepped as far as it was asked for, and remembers the way."""
        while len(self._factors) <= step:
            self._optimizer.step()
            self._scheduler.step()
            self._factors.append(self._rate())
        return self._factors[step]

    def observe(self, value: float) -> None:
        """PyTorch's scheduler is stepped by number and does not listen."""

    def state_dict(self) -> dict[str, float | int]:
        """Nothing: the steps taken determine it."""
        return {}

    def load_state_dict(self, state: Mapping[str, float | int]) -> None:
        """Nothing to restore: it is stepped to where it is asked for."""
