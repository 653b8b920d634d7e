"""The negative log-likelihood of a normal distribution whose mean and variance are predicted."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.losses.base import Form, Loss, Predicted, Reduction, blocks_of
from descend.nn.outputs import positive

__all__ = ["Gaussian"]


@method(
    row="K12",
    reference="Nix and Weigend 1994; torch.nn.GaussianNLLLoss with full=True",
    formula="l = (log(2 pi v) + (y - m)^2 / v) / 2, m = z_1, v = log(1 + exp z_2) + 1e-6; mean over targets",
    note="The network has two outputs per target. It may be negative, as the logarithm of a density above 1.",
)
@final
class Gaussian(Loss):
    """Negative log-likelihood of a normal distribution with mean m and variance v, both predicted.

    The prediction is the mean; :meth:`descend.Run.predict_distribution` also returns the standard deviation, in the units
    of the target. Rows with a large variance weigh less than in the mean squared error. It is not convex in z₂.
    Its gradient by z₂ contains (y − m)²/v², with v at least 1e-6: in single precision it is finite for |y − m| < 1e13 at the
    smallest variance, and for |y − m| < 1e19 at v = 1.
    Shapes: outputs (n, 2T), the means first; targets (n, T).

    >>> Gaussian()(torch.tensor([[0.0, 100.0]]), torch.tensor([[10.0]]))  # v = 100
    tensor(3.7215)
    """

    form: Form = "values"
    tasks = frozenset({"regression", "multi_regression"})
    output = "gaussian_mean"
    blocks = 2

    def _loss(self, outputs: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        mean, raw = blocks_of(outputs, targets, 2)
        variance = positive(raw)
        squares = (targets.flatten(1) - mean).square()
        losses = 0.5 * (torch.log(variance) + squares / variance + math.log(2.0 * math.pi))
        rows = losses.mean(1)
        return rows.mean() if reduction == "mean" else rows

    def distribution(self, outputs: Tensor) -> dict[str, Predicted]:
        """Return ``mean`` and ``standard_deviation``."""
        mean, raw = outputs.chunk(2, 1)
        return {
            "mean": Predicted(mean, "location"),
            "standard_deviation": Predicted(positive(raw).sqrt(), "scale"),
        }
