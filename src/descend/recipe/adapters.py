"""Adapters to the interfaces of the training loop: PyTorch's losses and schedulers, and losses of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.losses import Loss

__all__ = ["CallableLoss", "OnProbabilities", "TorchSchedule"]


class OnProbabilities(nn.Module):
    """A loss of probabilities, applied after an output activation that has no fused form."""

    def __init__(self, loss: Loss, output: nn.Module) -> None:
        super().__init__()
        self.loss, self.output = loss, output

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss of raw outputs."""
        return cast(Tensor, self.loss(self.output(outputs), targets, weights))

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row."""
        return self.loss.per_sample(self.output(outputs), targets)

    def trust(self, targets: Tensor) -> None:
        """Check all targets once."""
        self.loss.trust(targets)

    def unsmoothed(self) -> OnProbabilities:
        """Return the loss without label smoothing, as it is reported."""
        return OnProbabilities(self.loss.unsmoothed(), self.output)


class CallableLoss(nn.Module):
    """A loss by import path, called as PyTorch's losses are: ``loss(outputs, targets)`` returns a mean."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss; with weights, the weighted mean of the losses of single rows."""
        shaped = targets.unsqueeze(1) if targets.is_floating_point() and targets.dim() == 1 else targets
        if weights is None:
            return self.loss(outputs, shaped)
        return torch.dot(self.per_sample(outputs, targets), weights) / weights.sum()

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row."""
        shaped = targets.unsqueeze(1) if targets.is_floating_point() and targets.dim() == 1 else targets
        return torch.stack([self.loss(outputs[i : i + 1], shaped[i : i + 1]) for i in range(len(outputs))])

    def trust(self, targets: Tensor) -> None:
        """Do nothing: the domain of the targets is unknown."""

    def unsmoothed(self) -> CallableLoss:
        """Return the loss itself: whether it smooths labels is unknown."""
        return self


class TorchSchedule:
    """A scheduler of PyTorch, stepped once per training step, as a factor of the base learning rate."""

    def __init__(self, construct: Callable[[torch.optim.Optimizer], Any]) -> None:
        self._optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        self._scheduler = construct(self._optimizer)
        self._factors = [self._lr()]

    def _lr(self) -> float:
        return float(self._optimizer.param_groups[0]["lr"])

    def factor(self, step: int) -> float:
        """Return the factor before a step. The scheduler is stepped up to it, and earlier factors are kept."""
        while len(self._factors) <= step:
            self._optimizer.step()
            self._scheduler.step()
            self._factors.append(self._lr())
        return self._factors[step]

    def observe(self, value: float) -> None:
        """Do nothing: the scheduler depends on the step alone."""

    def state_dict(self) -> dict[str, float | int]:
        """Return no state: the number of the step determines the factor."""
        return {}

    def load_state_dict(self, state: Mapping[str, float | int]) -> None:
        """Restore nothing: :meth:`factor` steps the scheduler as far as needed."""
