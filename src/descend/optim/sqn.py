"""A stochastic quasi-Newton method whose pairs are products with the second derivative at averaged iterates.

Differences of stochastic gradients make poor pairs: what they are to show, the change along a short step, is small beside
their noise. Byrd, Hansen, Nocedal and Singer (2016) take the second derivative itself, but only every L steps:

    w̄ₜ = mean of the last L iterates,   s = w̄ₜ − w̄ₜ₋₁,   y = ∇²F(w̄ₜ) s

The averages lie far apart, and a product costs about three gradients with the graph it needs. A step is
w⁺ = w − α H g, with H from the last M pairs and H₀ = γI, γ = sᵀy/yᵀy of the newest (:mod:`descend.linalg.pairs`). There
is no pair before the second average, so the first 2 L steps are those of stochastic gradient descent, w⁺ = w − α g.

The paper's losses are convex. Of a network's the second derivative has negative directions; pairs with sᵀy ≤ 0 are left
out, and the Gauss-Newton matrix, which has none, may take its place.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch.optim import Optimizer

from descend.cards import method
from descend.linalg import Pairs
from descend.optim.building import Params, build
from descend.optim.curved import Matrix, needs_of
from descend.optim.evaluation import Evaluations, Need
from descend.optim.whole import Position, WholeStep
from descend.param_types import Count, Portion, Positive

__all__ = ["SQN", "sqn"]


@final
class SQN(WholeStep):
    """w⁺ = w − α H g with H from products at averaged iterates; see :func:`sqn`.

    The state is ``count``, how many steps were taken; ``sum`` of the iterates since the last average; ``average``, the last
    one; and the pairs (:class:`descend.linalg.Pairs`): 2 M + 2 numbers per parameter and M² more.
    """

    def __init__(
        self, params: Params, lr: float, memory: int, every: int, curvature: Matrix, share: float
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be 0 or more; found {lr}")
        if memory < 1 or every < 1:
            raise ValueError(f"memory and every must be 1 or more; found {memory} and {every}")
        if curvature not in ("hessian", "gauss_newton"):
            raise ValueError(f"curvature must be hessian or gauss_newton; found {curvature!r}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1; found {share}")
        settings = {"memory": memory, "every": every, "curvature": curvature, "share": share}
        super().__init__(params, {"lr": lr} | settings)

    @property
    def needs(self) -> frozenset[Need]:
        """What the curvature needs, and parts of the rows where there is a share of them."""
        return needs_of(self.param_groups[0])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters. What is remembered is of vectors of fewer entries, and is forgotten: sgd comes first again."""
        super().add_param_group(param_group)
        self.state.clear()

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """One gradient; at every L-th step a product at the average as well. Nothing waits for the device."""
        here = asked.gradient()
        asked.check_graph(here.loss)
        if here.empty:
            return here.loss
        chosen, memory = self.param_groups[0], self.memory
        if not memory:
            memory |= {"count": 0, "sum": torch.zeros_like(position.start)}
        count = memory["count"] + 1
        memory["sum"] += position.start
        step = here.vector
        if count > 2 * chosen["every"]:
            step = Pairs.of(memory).inverse_times(step)
            if here.missing is not None:
                step = step.masked_fill(here.missing, 0.0)
        position.move(self.by_rate(step), -1.0)
        if count % chosen["every"] == 0:
            self._average(asked, position)
        memory["count"] = count
        return here.loss

    def _average(self, asked: Evaluations, position: Position) -> None:
        """Close a stretch of iterates: their average, and a pair with the one before."""
        chosen, memory = self.param_groups[0], self.memory
        average = memory["sum"] / chosen["every"]
        memory["sum"] = torch.zeros_like(average)
        if "average" in memory:
            if "steps" not in memory:
                memory.update(Pairs(chosen["memory"], average).state())
            went = Position(asked.parameters)
            position.put(average)
            step = average - memory["average"]
            part = asked.part(chosen["share"])
            product = part.hessian() if chosen["curvature"] == "hessian" else part.gauss_newton()
            change = product(step)
            went.back()
            Pairs.of(memory).add(step, change)
        memory["average"] = average


@method(
    row="D9",
    reference="Byrd, Hansen, Nocedal and Singer 2016, algorithm 1",
    formula="w <- w - a H g; every L steps s = difference of averages of L iterates, y = (second derivative at the average) s",
)
def sqn(
    params: Params,
    *,
    lr: Positive = 0.01,
    memory: Count = 10,
    every: Count = 10,
    curvature: Matrix = "hessian",
    share: Portion = 1.0,
) -> Optimizer:
    """The stochastic quasi-Newton method of Byrd, Hansen, Nocedal and Singer.

    A step costs one gradient and every L-th three more; nothing waits for the device, and there is no line search, so
    the rate matters as it does for sgd. It is for noisy gradients of ill-conditioned losses. The state is 2 M + 2 numbers per
    parameter.

    Args:
        params: parameters or groups, each with its own rate.
        lr: α, for the first steps along −g and for those along −H g. Default 0.01.
        memory: M, pairs; 5 to 10 in the paper. Default 10.
        every: L, steps from one average to the next; 10 to 20 in the paper. Default 10.
        curvature: "hessian", the second derivative; "gauss_newton", that of the loss as a function of the outputs, which
            must be given (:class:`descend.optim.Rows`). Default "hessian".
        share: of the step's rows that the product is taken on. The paper takes six to twelve times the rows of a step; a
            closure may offer as many by its ``differentiable``. Default 1.

    Raises:
        UserError: a setting outside its domain; a closure that returns a loss without its graph.

    >>> w = torch.tensor([4.0, 4.0], requires_grad=True)
    >>> h = torch.tensor([1.0, 0.01])
    >>> optimizer = sqn([w], lr=0.5, every=2)
    >>> for _ in range(40):
    ...     _ = optimizer.step(lambda: (h * w * w / 2).sum())
    >>> bool(w.abs().max() < 0.01)  # the curvatures differ by a factor of 100: sgd is at 3.3
    True
    """
    settings = {"lr": lr, "memory": memory, "every": every, "curvature": curvature, "share": share}
    return build(SQN, params, settings)
