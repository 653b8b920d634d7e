"""L-BFGS on batches: pairs from the same rows at both ends, and damped.

A step goes along −H g, with H from the last m pairs of steps s and changes of the gradient y
(:mod:`descend.linalg.pairs`). What makes this right on batches of rows (Berahas, Nocedal and Takáč 2016):

- y is the difference of two gradients on the SAME rows with the SAME random numbers (dropout masks, augmentation). Of
  gradients of two batches it would be mostly their noise. Both are taken within the step, on the step's rows or on a random
  part of them.
- where the loss is not convex, or the step does not see enough of it, sᵀy may be small or negative. Powell's damping puts
  ŷ between y and B s, with B = H⁻¹, such that sᵀŷ ≥ 0.2 sᵀBs > 0. As s = −t H g, B s is −t g and costs nothing.
- H starts from γI with γ = sᵀŷ/ŷᵀŷ of the newest pair as it was damped: that of the raw one may be negative.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.cards import method
from descend.linalg import Pairs, damped
from descend.optim.along import Found, LineSearch, search
from descend.optim.building import Params, build
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.iterations import Iterations, checked
from descend.optim.whole import Position
from descend.param_types import Count, Fraction, Portion, Positive, Share

__all__ = ["LBFGS", "lbfgs"]


@final
class LBFGS(Iterations):
    """x⁺ = x − t H g with H from the last pairs; see :func:`lbfgs`.

    The state is that of :class:`descend.linalg.Pairs`, 2 m numbers per parameter and m² more. Settings beside the rate belong to
    the step as a whole: those of the first group count.
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        memory: int,
        line_search: LineSearch,
        overlap: float,
        damping: float,
        iterations: int,
        c1: float,
        c2: float,
    ) -> None:
        if memory < 1:
            raise ValueError(f"memory must be 1 or more; found {memory}")
        if line_search not in ("none", "armijo", "strong_wolfe"):
            raise ValueError(f"line_search must be none, armijo or strong_wolfe; found {line_search!r}")
        if not 0 < overlap <= 1:
            raise ValueError(f"overlap must be above 0 and at most 1; found {overlap}")
        if not 0 <= damping < 1:
            raise ValueError(f"damping must be 0 or more and below 1; found {damping}")
        defaults = checked(lr=lr, c1=c1, c2=c2, iterations=iterations) | {
            "memory": memory,
            "line_search": line_search,
            "overlap": overlap,
            "damping": damping,
        }
        super().__init__(params, defaults)

    def iterate(self, asked: Evaluations, position: Position, here: Gradient) -> Found | None:
        """Search along −H g, and take the pair. Without a line search nothing waits for the device.

        Where the search finds nothing the pairs, which may be at fault, are forgotten.
        """
        chosen = self.param_groups[0]
        pairs = self._pairs(position.start)
        rate, metric = self.metric()
        gradient = here.vector if metric is None else metric * here.vector
        first = torch.linalg.vector_norm(gradient).reciprocal().clamp(max=1.0)
        step = -rate * pairs.inverse_times(gradient, first=first)
        whole: Tensor | float = 1.0
        if here.missing is not None:
            whole = torch.logical_not((here.missing & (step != 0)).any())
            step = step.masked_fill(here.missing, 0.0)

        part = asked.part(chosen["overlap"])
        before = here if part is asked else part.gradient()
        moved = step if metric is None else metric * step
        rule: LineSearch = chosen["line_search"]
        found = search(asked, position, moved, here, rule=rule, c1=chosen["c1"], c2=chosen["c2"])
        if found is None:
            self.memory.clear()
            return None
        if part is asked:
            after = found.gradient or asked.gradient()
            found = Found(found.t, after)
        else:
            after = part.gradient()

        change = after.vector - before.vector
        if metric is not None:
            change = metric * change
        # The strong Wolfe conditions see to the curvature, on the rows they are tested on.
        if chosen["damping"] and not (rule == "strong_wolfe" and part is asked):
            change = damped(found.t * step, change, (-found.t * rate) * gradient, chosen["damping"])
        # Where a part of the direction was left out, B s is not known: a pair with s = 0 is not taken.
        pairs.add((whole * found.t) * step, change)
        return found

    def _pairs(self, like: Tensor) -> Pairs:
        if not self.memory:
            self.memory.update(Pairs(self.param_groups[0]["memory"], like).state())
        return Pairs.of(self.memory)


@method(
    row="D8",
    reference="Liu and Nocedal 1989; Powell 1978; Berahas, Nocedal and Takac 2016",
    formula="x <- x - t H g, H from the last m pairs (s, y) of the same rows, damped such that s'y >= 0.2 s'Bs",
    note="After PyTorch-LBFGS, with the initial scaling of the damped pair.",
)
def lbfgs(
    params: Params,
    *,
    lr: Positive = 1.0,
    memory: Count = 10,
    line_search: LineSearch = "strong_wolfe",
    overlap: Portion = 1.0,
    damping: Fraction = 0.2,
    iterations: Count = 1,
    c1: Share = 1e-4,
    c2: Share = 0.9,
) -> Optimizer:
    """L-BFGS for batches and for all rows.

    An iteration costs two gradients, and more where the first length is refused. With all rows in a step it is the method of
    Liu and Nocedal, and ``iterations`` may be set high. On batches each step fits its rows as far as the line
    search goes; on noisy ones ``line_search="none"`` with a smaller rate is the steadier choice, and waits for nothing.
    The state is 2 m numbers per parameter.

    Args:
        params: parameters or groups; rates of groups beside the largest are a change of variables.
        lr: the first length tried along −H g, or the only one, and the length of the very first step. Default 1.
        memory: m, pairs. Default 10.
        line_search: "strong_wolfe"; "armijo", which needs losses alone for each length tried; "none". Default "strong_wolfe".
        overlap: share of the step's rows that both gradients of a pair are taken on. A smaller one costs two gradients on the
            part in place of one on all rows, and needs a closure with parts (:class:`descend.optim.Rows`). Default 1.
        damping: the share of the old curvature along s that a pair keeps at least; 0 leaves out pairs with sᵀy ≤ 0 in place of
            damping them. Pairs whose curvature the strong Wolfe conditions see to are not damped. Default 0.2.
        iterations: on the same rows, in a step. Default 1.
        c1: the share of the promised decrease that is asked for. Default 1e-4.
        c2: the share of the slope that may be left. Default 0.9.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure; a part of the rows where there are no parts.

    >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    >>> optimizer = lbfgs([x], iterations=40)
    >>> _ = optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)  # Rosenbrock's valley
    >>> [round(each, 6) for each in x.tolist()]
    [1.0, 1.0]
    """
    settings = {
        "lr": lr,
        "memory": memory,
        "line_search": line_search,
        "overlap": overlap,
        "damping": damping,
        "iterations": iterations,
        "c1": c1,
        "c2": c2,
    }
    return build(LBFGS, params, settings)
