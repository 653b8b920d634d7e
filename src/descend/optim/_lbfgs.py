"""L-BFGS on batches: curvature pairs whose gradients are of the same rows, with Powell's damping.

A step is along −H g, with H from the last m pairs of steps s and changes of the gradient y
(:mod:`descend.linalg.pairs`). What makes this correct on batches of rows (Berahas, Nocedal and Takáč 2016):

- y is the difference of two gradients on the SAME rows with the SAME random numbers (dropout masks, augmentation). The
  difference of the gradients of two batches would be mostly their noise. Both are computed within the step, on the
  step's rows or on a random part of them.
- Where the loss is not convex, or a batch does not represent it, sᵀy may be small or negative. Powell's damping puts
  ŷ between y and B s, with B = H⁻¹, such that sᵀŷ ≥ 0.2 sᵀBs > 0. As s = −t H g, B s is −t g and costs nothing.
- The initial matrix is γI with γ = sᵀŷ/ŷᵀŷ of the newest damped pair; with the raw pair γ may be negative.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.linalg import Pairs, damped
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.iterations import Iterations
from descend.optim.line_search import LineSearch, SearchResult, search_along
from descend.optim.vector_step import Position
from descend.param_types import Count, Fraction, Portion, Positive, Share

__all__ = ["LBFGS", "lbfgs"]


@method(
    row="D8",
    reference="Liu and Nocedal 1989; Powell 1978; Berahas, Nocedal and Takac 2016",
    formula="x <- x - t H g, H from the last m pairs (s, y) of the same rows, damped such that s'y >= 0.2 s'Bs",
    note="After PyTorch-LBFGS, with the initial scaling of the damped pair.",
)
@final
class LBFGS(Iterations):
    """L-BFGS for batches and for the loss of all rows.

    An iteration costs two gradients, and more where the first step size is rejected. With all rows in a step it is the
    method of Liu and Nocedal, and ``max_iter`` may be large. On batches each step fits its rows as far as the line search
    goes; with noisy batches ``line_search="none"`` with a smaller learning rate is more stable, and does not wait for
    the device.

    The state is that of :class:`descend.linalg.Pairs`, 2 m numbers per parameter and m² more. Where the line search
    fails, the pairs are reset, as they may be the cause. Settings other than the learning rate apply to the step as a
    whole, and those of the first group are used.

    Args:
        params: parameters or groups; where their learning rates differ, the ratios to the largest act as a change of
            variables.
        lr: the first step size tried along −H g, or the only one, and the length of the very first step. Default 1.
        max_iter: iterations on the same rows in a step. Default 1.
        history_size: m, the number of pairs. Default 10.
        line_search: "strong_wolfe"; "armijo", which needs only the loss for each step size; "none". Default
            "strong_wolfe".
        sample_fraction: the share of the step's rows on which both gradients of a pair are computed. A share below 1 costs two
            gradients on the part instead of one on all rows, and needs a closure that supports parts
            (:class:`descend.optim.Rows`). Default 1.
        damping: the share of the previous curvature along s that a pair keeps at least; 0 discards pairs with sᵀy ≤ 0
            instead of damping them. Pairs that satisfy the strong Wolfe conditions are not damped. Default 0.2.
        c1: the share of the decrease predicted by the slope that is required. Default 1e-4.
        c2: the share of the slope that may remain. Default 0.9.

    Raises:
        UserError: a setting is outside its domain; ``step`` is called without a closure; ``sample_fraction`` is below 1 and the
            closure has no parts.

    >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    >>> optimizer = LBFGS([x], max_iter=40)
    >>> _ = optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)  # the Rosenbrock function
    >>> [round(each, 6) for each in x.tolist()]
    [1.0, 1.0]
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        max_iter: Count = 1,
        *,
        history_size: Count = 10,
        line_search: LineSearch = "strong_wolfe",
        sample_fraction: Portion = 1.0,
        damping: Fraction = 0.2,
        c1: Share = 1e-4,
        c2: Share = 0.9,
    ) -> None:
        super().__init__(params, locals())

    def iterate(self, objective: Evaluations, position: Position, gradient: Gradient) -> SearchResult | None:
        """Search along −H g, and add the pair. Without a line search nothing waits for the device."""
        settings = self.param_groups[0]
        pairs = self._pairs(position.start)
        lr, metric = self.metric()
        vector = gradient.vector if metric is None else metric * gradient.vector
        first = torch.linalg.vector_norm(vector).reciprocal().clamp(max=1.0)
        step = -lr * pairs.inverse_times(vector, first=first)
        complete: Tensor | float = 1.0
        if gradient.missing is not None:
            complete = torch.logical_not((gradient.missing & (step != 0)).any())
            step = step.masked_fill(gradient.missing, 0.0)

        part = objective.part(settings["sample_fraction"])
        before = gradient if part is objective else part.gradient()
        line_search: LineSearch = settings["line_search"]
        result = search_along(
            objective,
            position,
            step if metric is None else metric * step,
            gradient,
            line_search=line_search,
            c1=settings["c1"],
            c2=settings["c2"],
        )
        if result is None:
            self.memory.clear()
            return None
        if part is objective:
            after = result.gradient or objective.gradient()
            result = SearchResult(result.t, after)
        else:
            after = part.gradient()

        change = after.vector - before.vector
        if metric is not None:
            change = metric * change
        # The strong Wolfe conditions guarantee the curvature on the rows on which they are tested.
        if settings["damping"] and not (line_search == "strong_wolfe" and part is objective):
            change = damped(result.t * step, change, (-result.t * lr) * vector, settings["damping"])
        # Where entries of the direction were masked, B s is unknown: a pair with s = 0 is not stored.
        pairs.add((complete * result.t) * step, change)
        return result

    def _pairs(self, like: Tensor) -> Pairs:
        if not self.memory:
            self.memory.update(Pairs(self.param_groups[0]["history_size"], like).state())
        return Pairs.of(self.memory)


lbfgs = LBFGS
