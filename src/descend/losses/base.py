"""Base class of losses: per-sample values, their mean or weighted mean, and the form of the outputs."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from descend.errors import UserError
from descend.interface import setting
from descend.losses.likelihoods import Likelihood

__all__ = ["Form", "Loss", "Predicted", "Reduction", "TargetSpace", "blocks_of", "same_shape"]

Form = Literal["logits", "probabilities", "values"]
Reduction = Literal["none", "mean"]
TargetSpace = Literal["standardized", "raw"]
"""Whether targets of a regression are standardized or in their own units."""


class Predicted(NamedTuple):
    """One quantity of a predicted distribution, on the scale on which the targets are learned.

    Args:
        values: (n, T).
        kind: how it changes with the units of a target y = s y' + m: a ``"location"`` becomes s v + m, a ``"scale"``
            s v, and a ``"number"`` stays.
    """

    values: Tensor
    kind: Literal["location", "scale", "number"]


class Loss(nn.Module, ABC):
    """Base class of losses: per-sample values, their mean or weighted mean, and the form of the outputs.

    Attributes:
        form: the form of the outputs.
        tasks: the tasks it is for.
        target_space: whether it takes the targets of a regression standardized or in their own units.
        curved: whether its second derivative with respect to the outputs is other than 0.
        output: for regression, the output activation that computes predictions from the raw outputs
            (:mod:`descend.nn.outputs`).
        blocks: for regression, the number of raw outputs per target.
    """

    form: Form
    tasks: ClassVar[frozenset[str]]
    target_space: ClassVar[TargetSpace] = "standardized"
    curved: ClassVar[bool] = True
    output: str = "identity"
    blocks: int = 1

    def __init__(self) -> None:
        super().__init__()
        self._trusted = False

    @abstractmethod
    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        """Return the losses of the rows (n,) or their mean, in one fused call if PyTorch has it."""

    def _check(self, targets: Tensor) -> None:
        """Raise a UserError if targets are outside the domain of the loss; synchronizes with the device."""

    def _check_classes(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise a UserError if class indices are outside 0…K−1; synchronizes with the device.

        PyTorch ignores the index -100, and another one ends a process on CUDA.
        """
        if "multiclass" not in self.tasks or targets.dim() != 1 or outputs.dim() != 2:
            return
        if targets.is_floating_point() or targets.dtype == torch.bool or len(targets) == 0:
            return
        low, high = torch.stack(torch.aminmax(targets)).tolist()
        classes = outputs.shape[1]
        if low < 0 or high >= classes:
            raise UserError(
                f"targets must be class indices from 0 to {classes - 1}, the last of {classes} outputs; "
                f"got {low if low < 0 else high}"
            )

    def trust(self, targets: Tensor) -> None:
        """Check all training targets once, so that later calls need no check.

        A check synchronizes with the device. Without ``trust`` every call checks its targets; only such a call compares
        class indices with the number of outputs, which the targets do not tell.

        Raises:
            UserError: targets are outside the domain of the loss.
        """
        self._check(targets)
        self._trusted = True

    @property
    def likelihood(self) -> Likelihood | None:
        """The likelihood whose negative logarithm is the loss, up to a constant; None if there is none."""
        return None

    def for_task(self, task: str) -> Loss:
        """Return the loss for a task; one that depends on it returns a changed copy."""
        return self

    def distribution(self, outputs: Tensor) -> dict[str, Predicted]:
        """Return the quantities of the predicted distribution for raw outputs, by name.

        Raises:
            UserError: the loss predicts no distribution.
        """
        raise UserError(
            f"the loss {type(self).__name__} predicts no distribution; train with {setting('loss.name', 'gaussian')}, or "
            "with 'quantile', 'poisson' or 'negative_binomial'"
        )

    def unsmoothed(self) -> Loss:
        """Return the loss without label smoothing, for evaluation."""
        return self

    def on_probabilities(self) -> Loss:
        """Return the same loss for outputs that are probabilities.

        Raises:
            UserError: it is a loss of values.
        """
        if self.form == "values":
            raise UserError(f"{type(self).__name__} is a loss of values, not of probabilities")
        loss = copy.copy(self)
        loss.form = "probabilities"
        return loss

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each row, shape (n,).

        Raises:
            UserError: the shapes do not match, or targets are outside the domain of the loss.
        """
        if not self._trusted:
            self._check(targets)
            self._check_classes(outputs, targets)
        return self._loss(outputs, targets, "none")

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean loss over rows, or Σ w ℓ / Σ w.

        Args:
            outputs: outputs of the model, in the ``form`` of the loss.
            targets: see :mod:`descend.losses`.
            weights: (n,), one non-negative weight per row. Default None: all equal.

        Raises:
            UserError: the shapes do not match, or targets are outside the domain of the loss.
        """
        if weights is None:
            if not self._trusted:
                self._check(targets)
                self._check_classes(outputs, targets)
            return self._loss(outputs, targets, "mean")
        losses = self.per_sample(outputs, targets)
        if weights.shape != losses.shape:
            raise UserError(
                f"expected weights of shape {tuple(losses.shape)}, one per row, got {tuple(weights.shape)}"
            )
        weights = weights.to(losses.dtype)
        return torch.dot(losses, weights) / weights.sum()


def blocks_of(outputs: Tensor, targets: Tensor, count: int) -> tuple[Tensor, ...]:
    """Return the blocks (n, T) of raw outputs (n, count·T).

    Raises:
        UserError: the shapes do not match.
    """
    if outputs.dim() != 2 or outputs.shape != (len(targets), count * targets[0:1].numel()):
        raise UserError(
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}; "
            f"the loss takes {count} outputs per target"
        )
    return outputs.chunk(count, 1)


def same_shape(outputs: Tensor, targets: Tensor) -> None:
    """Raise a UserError if shapes differ; broadcasting (n, 1) against (n,) would silently give n × n losses."""
    if outputs.shape != targets.shape:
        raise UserError(
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}; "
            "they must be equal"
        )
