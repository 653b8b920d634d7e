"""Adapters to the interfaces of the training loop: PyTorch's losses and schedulers, and losses of probabilities."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from descend.errors import UserError
from descend.interface import setting
from descend.losses import Loss
from descend.losses.classification import log_clamped, one_hot
from descend.losses.conventions import Convention
from descend.nn.outputs import Softmax, positive

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
    """A loss by import path, called as PyTorch's losses are: ``loss(outputs, targets)`` returns a mean.

    Outputs and targets are passed in the form that the loss takes (:mod:`descend.losses.conventions`). Targets (n,) of
    floating-point numbers become (n, 1), the shape of the outputs.

    Args:
        loss: the loss.
        convention: what it takes.
        output: the output activation of the network.
    """

    def __init__(self, loss: Callable[..., Tensor], convention: Convention, output: nn.Module) -> None:
        super().__init__()
        self.loss, self.convention, self.output = loss, convention, output

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss; with weights, the weighted mean of the losses of single rows."""
        if weights is None:
            return self._value(*self._taken(outputs, targets))
        losses = self.per_sample(outputs, targets)
        return torch.dot(losses, weights.to(losses.dtype)) / weights.sum()

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row."""
        taken = self._taken(outputs, targets)
        return torch.stack([self._value(*(each[i : i + 1] for each in taken)) for i in range(len(outputs))])

    def _value(self, *taken: Tensor) -> Tensor:
        return self.loss(*(reversed(taken) if self.convention.targets_first else taken))

    def _taken(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Return the arguments of the loss."""
        y = targets.unsqueeze(1) if targets.is_floating_point() and targets.dim() == 1 else targets
        convention = self.convention
        if convention.targets == "signs":
            y = 2.0 * y - 1.0
        elif convention.targets == "one_hot" and not y.is_floating_point():
            y = one_hot(y, outputs)
        if convention.blocks == 2:
            mean, raw = outputs.chunk(2, 1)
            return mean, y, positive(raw)
        if convention.outputs == "probabilities":
            return self.output(outputs), y
        if convention.outputs == "log_probabilities":
            return self._log_probabilities(outputs), y
        return outputs, y

    def _log_probabilities(self, outputs: Tensor) -> Tensor:
        if getattr(self.output, "link", None) != "logit":
            return log_clamped(self.output(outputs))
        several = isinstance(self.output, Softmax)
        return torch.log_softmax(outputs, 1) if several else nn.functional.logsigmoid(outputs)

    def trust(self, targets: Tensor) -> None:
        """Check the targets of a loss of counts once; the domain of others is unknown.

        Raises:
            UserError: the loss takes counts, and a target is negative.
        """
        if self.convention.output == "exp" and bool((targets < 0).any()):
            raise UserError(
                f"{self.convention.name} takes counts, targets of at least 0, got {targets.min().item():g}; use "
                f"{setting('loss.name', 'mse')}, 'huber' or 'gaussian' for targets that may be negative"
            )

    def unsmoothed(self) -> CallableLoss:
        """Return the loss without the label smoothing of a loss of PyTorch; of others it is unknown."""
        if not self.convention.known:
            return self
        if isinstance(self.loss, functools.partial) and self.loss.keywords.get("label_smoothing"):
            loss: Callable[..., Tensor] = functools.partial(self.loss, label_smoothing=0.0)
        elif getattr(self.loss, "label_smoothing", 0.0):
            loss = copy.copy(self.loss)
            loss.label_smoothing = 0.0  # type: ignore[attr-defined]  # a module with this attribute
        else:
            return self
        return CallableLoss(loss, self.convention, self.output)


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
