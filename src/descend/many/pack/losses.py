"""Losses of K members, and their derivatives by the outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from descend.losses import BinaryCrossEntropy, CrossEntropy, MeanSquaredError
from descend.training.objective import Loss

__all__ = ["PackedLoss", "loss_signature", "row_losses"]


def loss_signature(loss: Loss) -> tuple[Any, ...]:
    """Return what the losses of two members must share: everything except label smoothing.

    >>> loss_signature(CrossEntropy(label_smoothing=0.1)) == loss_signature(CrossEntropy())
    True
    """
    smooth = float(getattr(loss, "label_smoothing", 0.0))
    settings = {
        name: value
        for name, value in vars(loss).items()
        if not name.startswith("_") and name not in ("label_smoothing", "training")
    }
    inner = {name: repr(module) for name, module in getattr(loss, "_modules", {}).items()}
    return (type(loss), repr(settings), repr(inner), *(() if _smooths(loss) else (smooth,)))


def _smooths(loss: Loss) -> bool:
    return type(loss) is CrossEntropy and loss.form == "logits"


def _of_classes(loss: Loss, targets: Tensor) -> bool:
    """Return whether a loss is the cross-entropy of logits and class indices."""
    return _smooths(loss) and targets.dim() == 2 and not targets.is_floating_point()


def _log_softmax(outputs: Tensor) -> Tensor:
    """Return log-probabilities with the classes before the rows: (K, n, C) → (K, C, n).

    PyTorch's kernel processes one row at a time if the classes are the last dimension, and many rows at a time if the
    rows are: with few classes this is ten times as fast, including the copy. Each member is processed separately.
    """
    logs: Tensor = torch._log_softmax(outputs.transpose(1, 2).contiguous(), 1, False)
    return logs


def row_losses(loss: Loss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the losses (K, n) of each row.

    Args:
        loss: the loss of all members, without label smoothing.
        outputs: (K, n, C).
        targets: (K, n) or (K, n, T).

    >>> row_losses(CrossEntropy(), torch.zeros(1, 2, 4), torch.tensor([[0, 3]]))
    tensor([[1.3863, 1.3863]])
    """
    if _of_classes(loss, targets) and not getattr(loss, "label_smoothing", 0.0):
        return -_log_softmax(outputs).gather(1, targets.unsqueeze(1)).squeeze(1)
    return loss.per_sample(outputs.flatten(0, 1), targets.flatten(0, 1)).view(outputs.shape[:2])


class PackedLoss:
    """The mean losses (K,) of the members' batches, and the derivative of each by its outputs.

    Args:
        losses: one for each member, equal except for label smoothing.
    """

    def __init__(self, losses: Sequence[Loss]) -> None:
        self._losses = list(losses)
        self._first = losses[0]
        self._smoothing: Tensor | None = None
        if _smooths(self._first):
            shares = [float(cast(CrossEntropy, loss).label_smoothing) for loss in losses]
            self._smoothing = torch.tensor(shares, dtype=torch.float64) if any(shares) else None

    @property
    def rows_last(self) -> bool:
        """Whether the loss is faster for outputs (K, B, C) that are stored with the rows last."""
        return _smooths(self._first)

    def select(self, places: list[int]) -> PackedLoss:
        """Return the loss of the members at these places."""
        return PackedLoss([self._losses[place] for place in places])

    def __call__(
        self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return mean losses and derivatives.

        Args:
            outputs: (K, B, C).
            targets: (K, B) or (K, B, T).
            weights: (K, B), with a mean of 1 over all rows, or None.

        Returns:
            Losses (K,), and d loss_k / d outputs_k, (K, B, C).
        """
        if weights is None:
            loss = self._first
            # Types are matched exactly: a subclass may compute a different loss.
            if _of_classes(loss, targets):
                return self._cross_entropy(outputs, targets)
            if type(loss) is MeanSquaredError and outputs.shape == targets.shape:
                residual = outputs - targets
                return residual.square().flatten(1).mean(1), residual.mul_(2.0 / residual[0].numel())
            single = outputs.shape[2:] == (1,)
            if (
                type(loss) is BinaryCrossEntropy
                and loss.form == "logits"
                and loss.pos_weight is None
                and single
            ):
                return _binary(outputs, targets, loss.label_smoothing)
        with torch.enable_grad():
            leaf = outputs.detach().requires_grad_()
            values = self.values(leaf, targets, weights)
            (derivative,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach(), derivative

    def row_values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses (K, n) of each row, label smoothing included, with the arguments of :func:`row_losses`."""
        if self._smoothing is None or not _of_classes(self._first, targets):
            return row_losses(self._first, outputs, targets)
        logs = _log_softmax(outputs)
        share = self._smoothing.to(logs.device, logs.dtype).view(-1, 1)
        right = logs.gather(1, targets.unsqueeze(1)).squeeze(1)
        return (share - 1.0) * right - share * logs.mean(1)

    def values(self, outputs: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
        """Return the mean losses (K,), differentiable by the outputs."""
        members, rows = outputs.shape[:2]
        if self._smoothing is not None:
            each = [
                loss.per_sample(own, target)
                for loss, own, target in zip(self._losses, outputs, targets, strict=True)
            ]
            losses = torch.stack(each)
        else:
            losses = self._first.per_sample(outputs.flatten(0, 1), targets.flatten(0, 1)).view(members, rows)
        if weights is not None:
            losses = losses * weights.to(losses.dtype)
        return losses.mean(1)

    def _cross_entropy(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        # With q = (1 - a) onehot + a/C the loss is -sum q log p, and its derivative p - q is the vector-Jacobian product
        # of the log softmax with -q. Where q is 0, log p is finite unless the outputs are not, so 0 · log p is exact.
        rows, classes = outputs.shape[1:]
        logs = _log_softmax(outputs)
        at = targets.unsqueeze(1)
        if self._smoothing is None:
            towards = torch.zeros_like(logs).scatter_(1, at, -1.0 / rows)
        else:
            share = self._smoothing = self._smoothing.to(logs.device, logs.dtype)
            evenly = (share / (-classes * rows)).view(-1, 1, 1)
            right = evenly - ((1.0 - share) / rows).view(-1, 1, 1)
            towards = evenly.expand_as(logs).contiguous().scatter_(1, at, right.expand(at.shape))
        values = (logs * towards).sum((1, 2))
        d = torch._log_softmax_backward_data(towards, logs, 1, logs.dtype)
        return values, d.transpose(1, 2)


def _binary(outputs: Tensor, targets: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    logits = outputs.squeeze(2)
    if smoothing:
        targets = targets * (1.0 - smoothing) + 0.5 * smoothing
    values = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(1)
    return values, logits.sigmoid().sub_(targets).div_(targets.shape[1]).unsqueeze(2)
