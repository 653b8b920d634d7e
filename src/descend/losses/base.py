"""What every loss is: per-sample values, their mean or weighted mean, and the form of outputs it takes."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from descend.errors import UserError
from descend.losses.likelihoods import Likelihood

__all__ = ["Form", "Loss", "Reduction", "same_shape"]

Form = Literal["logits", "probabilities", "values"]
Reduction = Literal["none", "mean"]


class Loss(nn.Module, ABC):
    """A loss: per-sample values, their mean or weighted mean, and the form of outputs it takes."""

    form: Form
    tasks: ClassVar[frozenset[str]]

    def __init__(self) -> None:
        super().__init__()
        self._trusted = False

    @abstractmethod
    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        """The rows' losses (n,) or their mean, in one fused call where PyTorch has it."""

    def _check(self, targets: Tensor) -> None:
        """Raise UserError where targets are outside the loss's domain; waits for the device."""

    def trust(self, targets: Tensor) -> None:
        """Check all targets of a training once, so that no later call has to.

        A check waits for the device. Without ``trust`` every call checks its own targets.

        Raises:
            UserError: targets are outside the loss's domain.
        """
        self._check(targets)
        self._trusted = True

    @property
    def likelihood(self) -> Likelihood | None:
        """The distribution of targets whose negative logarithm this is, up to a constant; None where it is none."""
        return None

    def unsmoothed(self) -> Loss:
        """The loss as it is measured: without label smoothing, which is a means of training."""
        return self

    def on_probabilities(self) -> Loss:
        """The same loss for outputs that are probabilities.

        Raises:
            UserError: the loss is not one of probabilities.
        """
        if self.form == "values":
            raise UserError(f"{type(self).__name__} is a loss of values, not of probabilities")
        made = copy.copy(self)
        made.form = "probabilities"
        return made

    def per_sample(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of every row, shape (n,).

        Raises:
            UserError: the shapes do not fit each other, or targets are outside the loss's domain.
        """
        if not self._trusted:
            self._check(targets)
        return self._loss(outputs, targets, "none")

    def forward(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Mean loss over rows, or Σ w ℓ / Σ w.

        Args:
            outputs: the model's side, in the loss's ``form``.
            targets: see :mod:`descend.losses`.
            weights: (n,), one non-negative weight a row. Default None: all equal.

        Raises:
            UserError: the shapes do not fit each other, or targets are outside the loss's domain.
        """
        if weights is None:
            if not self._trusted:
                self._check(targets)
            return self._loss(outputs, targets, "mean")
        losses = self.per_sample(outputs, targets)
        if weights.shape != losses.shape:
            raise UserError(
                f"weights have shape {tuple(weights.shape)}; expected {tuple(losses.shape)}, one a row"
            )
        weights = weights.to(losses.dtype)
        return torch.dot(losses, weights) / weights.sum()


def same_shape(outputs: Tensor, targets: Tensor) -> None:
    """Refuse to broadcast: (n, 1) against (n,) would give n × n losses without a word."""
    if outputs.shape != targets.shape:
        raise UserError(
            f"outputs have shape {tuple(outputs.shape)} and targets {tuple(targets.shape)}; "
            "they must be equal"
        )
