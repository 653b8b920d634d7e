"""Regression losses: mean squared error, mean absolute error and Huber loss."""

from __future__ import annotations

from typing import final

from torch import Tensor
from torch.nn import functional

from descend.cards import method
from descend.errors import UserError
from descend.losses.base import Form, Loss, Reduction, same_shape
from descend.losses.likelihoods import Normal
from descend.param_types import Positive

__all__ = ["Huber", "MeanAbsoluteError", "MeanSquaredError"]

_TASKS = frozenset({"regression", "multi_regression"})


@method(
    row="C1",
    reference="torch.nn.MSELoss",
    formula="l = 1/T sum_t (y_t - p_t)^2",
    note="As in PyTorch it is a mean over targets; the squared norm ||y - p||^2 is T times larger.",
)
@final
class MeanSquaredError(Loss):
    """Mean squared error, whose minimizer is the conditional mean.

    Shapes: outputs (n, T), targets (n, T).

    >>> import torch
    >>> MeanSquaredError()(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]]))
    tensor(5.)
    """

    form: Form = "values"
    tasks = _TASKS

    @property
    def likelihood(self) -> Normal:
        """Normal with variance 1/2 for each target."""
        return Normal()

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        same_shape(outputs, targets)
        if reduction == "mean":
            return functional.mse_loss(outputs, targets)
        return (outputs - targets).square().flatten(1).mean(1)


@method(
    row="C1",
    reference="torch.nn.L1Loss",
    formula="l = 1/T sum_t |y_t - p_t|",
    note="The subgradient at 0 is 0.",
)
@final
class MeanAbsoluteError(Loss):
    """Mean absolute error, whose minimizer is the conditional median; outliers have less influence.

    Shapes: outputs (n, T), targets (n, T).

    >>> import torch
    >>> MeanAbsoluteError()(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]]))
    tensor(2.)
    """

    form: Form = "values"
    tasks = _TASKS
    curved = False

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        same_shape(outputs, targets)
        if reduction == "mean":
            return functional.l1_loss(outputs, targets)
        return (outputs - targets).abs().flatten(1).mean(1)


@method(
    row="C1",
    reference="Huber 1964; torch.nn.HuberLoss",
    formula="l = r^2/2 for |r| <= d, d (|r| - d/2) beyond; mean over targets, r = y - p",
)
@final
class Huber(Loss):
    """Huber loss: quadratic for small residuals and linear for large ones; smooth, and robust to outliers.

    Shapes: outputs (n, T), targets (n, T).

    Args:
        delta: δ, the residual at which the loss becomes linear, in units of the (standardized) target. Default 1.

    Raises:
        UserError: δ is not positive.

    >>> import torch
    >>> Huber(delta=1.0)(torch.tensor([[3.0]]), torch.tensor([[0.0]]))
    tensor(2.5000)
    """

    form: Form = "values"
    tasks = _TASKS

    def __init__(self, *, delta: Positive = 1.0) -> None:
        super().__init__()
        if not delta > 0:
            raise UserError(f"huber: delta must be above 0, got {delta}")
        self.delta = delta

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        same_shape(outputs, targets)
        losses = functional.huber_loss(outputs, targets, delta=self.delta, reduction=reduction)
        return losses if reduction == "mean" else losses.flatten(1).mean(1)
