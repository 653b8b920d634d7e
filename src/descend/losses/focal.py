"""The focal loss: cross-entropy with less weight on rows that are already classified well."""

from __future__ import annotations

import copy
import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from descend.cards import method
from descend.errors import UserError
from descend.losses.base import Form, Loss, Reduction
from descend.losses.classification import in_unit_interval, label_outputs, log_clamped, log_softmax, one_hot
from descend.param_types import NonNegative, Positive, Share

__all__ = ["Focal"]


@method(
    row="K12",
    reference="Lin et al. 2017",
    formula="l = -sum_k a_k q_k (1 - p_k)^g log p_k, q one-hot, p = softmax(z); binary and labels: p = sigmoid(z), both values",
    note="With gamma = 0 and without alpha it is the cross-entropy. Its minimizer is not the probability of the class: "
    "predicted probabilities are too close to uniform.",
)
@final
class Focal(Loss):
    """Focal loss, −(1 − p)^γ log p with p the probability of the correct class.

    Rows with p near 1 contribute less than in the cross-entropy, which helps where most rows are easy negatives.
    Shapes: binary outputs (n, 1) with targets (n,) in [0, 1]; labels (n, L) with targets (n, L) in [0, 1]; multiclass
    outputs (n, K) with int64 targets (n,) or distributions (n, K).

    Args:
        gamma: γ, at least 0. Default 2.
        alpha: weights of the classes. Binary and labels: a number a in (0, 1), the weight of class 1; that of class 0 is
            1 − a. Multiclass: K positive numbers. Default None: 1 for all.

    Raises:
        UserError: γ is negative; α is out of range, or, when called, does not fit the classes.

    >>> Focal(gamma=2.0)(torch.zeros(1, 1), torch.tensor([1.0]))  # (1/2)² log 2
    tensor(0.1733)
    """

    form: Form = "logits"
    tasks = frozenset({"binary", "multiclass", "multi_label"})

    def __init__(
        self, *, gamma: NonNegative = 2.0, alpha: Share | tuple[Positive, ...] | None = None
    ) -> None:
        super().__init__()
        if not gamma >= 0:
            raise UserError(f"focal: gamma must be at least 0, got {gamma}")
        if isinstance(alpha, list | tuple):
            alpha = tuple(float(each) for each in alpha)
            fits = all(each > 0 for each in alpha)
        else:
            fits = alpha is None or 0 < alpha < 1
        if not fits:
            raise UserError(
                f"focal: alpha must be a number between 0 and 1, or a positive number for each class, got {alpha}"
            )
        self.gamma, self.alpha = gamma, alpha
        self.labels = False

    def _check(self, targets: Tensor) -> None:
        if targets.is_floating_point():
            in_unit_interval(targets)

    def for_task(self, task: str) -> Focal:
        """Return the loss; for labels, one that treats each output separately."""
        return _for_labels(self) if task == "multi_label" else self

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        labels = self.labels or (targets.is_floating_point() and targets.dim() == 1)
        rows = self._of_labels(outputs, targets) if labels else self._of_classes(outputs, targets)
        return rows.mean() if reduction == "mean" else rows

    def _of_labels(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of rows with one or several values of 0 or 1."""
        if isinstance(self.alpha, tuple):
            raise UserError("focal: for two values per target, alpha is one number, the weight of class 1")
        flat = label_outputs(outputs, targets)
        if self.form == "logits":
            logs, others = functional.logsigmoid(flat), functional.logsigmoid(-flat)
        else:
            logs, others = log_clamped(flat), log_clamped(1.0 - flat)
        own, other = (1.0, 1.0) if self.alpha is None else (self.alpha, 1.0 - self.alpha)
        losses = -own * targets * self._factor(logs) * logs
        losses = losses - other * (1.0 - targets) * self._factor(others) * others
        return losses if losses.dim() == 1 else losses.mean(1)

    def _of_classes(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of rows with one of K classes."""
        shares = one_hot(targets, outputs)
        logs = log_softmax(outputs, shares) if self.form == "logits" else log_clamped(outputs)
        losses = shares * self._factor(logs) * -logs
        if self.alpha is not None:
            if not isinstance(self.alpha, tuple) or len(self.alpha) != outputs.shape[1]:
                raise UserError(
                    f"focal: alpha needs a positive number for each of the {outputs.shape[1]} classes, got {self.alpha}"
                )
            losses = losses * losses.new_tensor(self.alpha)
        return losses.sum(1)

    def _factor(self, logs: Tensor) -> Tensor:
        """Return (1 - p)^γ from log p; below the rounding error of p, it is that of a p just below 1."""
        if self.gamma == 0:
            return torch.ones_like(logs)
        # Where p underflows, the factor is constant; its derivative would be 0 times a product that may overflow.
        limits = torch.finfo(logs.dtype)
        return (-torch.expm1(logs.clamp(2.0 * math.log(limits.tiny), -limits.eps))).pow(self.gamma)


def _for_labels(loss: Focal) -> Focal:
    changed = copy.copy(loss)
    changed.labels = True
    return changed
