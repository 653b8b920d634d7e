"""The pinball loss, whose minimizer is a quantile."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError
from descend.losses.base import Form, Loss, Predicted, Reduction, blocks_of
from descend.nn.outputs import rearranged
from descend.param_types import Share

__all__ = ["Quantile"]


@method(
    row="K12",
    reference="Koenker and Bassett 1978; sklearn.metrics.mean_pinball_loss",
    formula="l = max(t r, (t - 1) r), r = y - p, t the level; mean over targets and levels",
    note="Level 0.5 is half the absolute error. With a linear model it is quantile regression. Several levels are separate "
    "outputs of one network; those that cross are sorted in predictions, not in the loss (Chernozhukov et al. 2010).",
)
@final
class Quantile(Loss):
    """Pinball loss, whose minimizer is the conditional quantile of a level.

    The subgradient at r = 0 is 0. The second derivative is 0 wherever it exists, so methods that use it do not apply.
    Shapes: outputs (n, L T) for L levels, the T targets of the first level first; targets (n, T).

    Args:
        level: the level t, between 0 and 1, or several. With several levels the prediction is the quantile of the level
            that is closest to 0.5; :meth:`descend.Run.predict_distribution` returns all. Predicted quantiles of a row that
            cross are sorted. Default 0.5.

    Raises:
        UserError: a level is not between 0 and 1, or occurs twice.

    >>> Quantile(level=0.9)(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [-1.0]]))
    tensor(0.5000)
    """

    form: Form = "values"
    tasks = frozenset({"regression", "multi_regression"})
    curved = False

    def __init__(self, *, level: Share | tuple[Share, ...] = 0.5) -> None:
        super().__init__()
        levels = tuple(level) if isinstance(level, list | tuple) else (level,)
        if not levels or not all(0 < each < 1 for each in levels) or len(set(levels)) < len(levels):
            raise UserError(f"quantile: level must be different numbers between 0 and 1, got {level}")
        self.levels = tuple(float(each) for each in levels)
        self.blocks = len(levels)
        self.output = "identity" if len(levels) == 1 else "middle_quantile"

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        blocks = blocks_of(outputs, targets, self.blocks)
        y = targets.flatten(1)
        total = torch.zeros_like(y[:, 0])
        for level, predicted in zip(self.levels, blocks, strict=True):
            residual = y - predicted
            total = total + (level * residual.relu() + (1.0 - level) * (-residual).relu()).mean(1)
        rows = total / len(self.levels)
        return rows.mean() if reduction == "mean" else rows

    def distribution(self, outputs: Tensor) -> dict[str, Predicted]:
        """Return the quantile of each level, named ``quantile_0.9`` for the level 0.9; those that cross are sorted."""
        quantiles = rearranged(outputs, self.levels)
        return {
            f"quantile_{level:g}": Predicted(quantiles[:, at], "location")
            for at, level in enumerate(self.levels)
        }
