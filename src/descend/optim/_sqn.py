"""A stochastic quasi-Newton method whose curvature pairs are Hessian-vector products at averaged iterates.

Differences of stochastic gradients make poor curvature pairs: the change along a short step is small compared with the
noise. Byrd, Hansen, Nocedal and Singer (2016) compute Hessian-vector products instead, but only every L steps:

    w̄ₜ = mean of the last L iterates,   s = w̄ₜ − w̄ₜ₋₁,   y = ∇²F(w̄ₜ) s

The averages are far apart, and a product costs about three gradients with the graph it needs. A step is
w⁺ = w − α H g, with H from the last M pairs and H₀ = γI, γ = sᵀy/yᵀy of the newest (:mod:`descend.linalg.pairs`). There
is no pair before the second average, so the first 2 L steps are those of stochastic gradient descent, w⁺ = w − α g.

The paper assumes convex losses. The Hessian of a network has negative directions; pairs with sᵀy ≤ 0 are discarded, and
the Gauss-Newton matrix, which has no negative directions, may be used instead.
"""

from __future__ import annotations

from typing import Any, final

import torch

from descend.cards import method
from descend.linalg import Pairs
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations, Need
from descend.optim.truncated_newton import CurvatureKind, needs_of
from descend.optim.vector_step import Position, VectorStep
from descend.param_types import Count, Portion, Positive

__all__ = ["SQN", "sqn"]


@method(
    row="D9",
    reference="Byrd, Hansen, Nocedal and Singer 2016, algorithm 1",
    formula="w <- w - a H g; every L steps s = difference of averages of L iterates, y = (Hessian at the average) s",
)
@final
class SQN(VectorStep):
    """The stochastic quasi-Newton method of Byrd, Hansen, Nocedal and Singer.

    A step costs one gradient, and every L-th step three more. No step waits for the device, and there is no line
    search, so the learning rate matters as much as for SGD. A step that is not finite is not taken. The method suits
    noisy gradients of ill-conditioned losses. The rows of each L-th step determine the curvature: where their loss is smaller
    than that of other rows by a factor of 10¹⁰, for example, the steps until the next pair are larger by that factor, and may
    diverge.

    The state is ``count``, the number of steps taken; ``sum`` of the iterates since the last average; ``average``, the
    last one; and the pairs (:class:`descend.linalg.Pairs`): 2 M + 2 numbers per parameter and M² more.

    Args:
        params: parameters or groups, each with its own learning rate.
        lr: α, for the first steps along −g and for those along −H g. Default 0.01.
        history_size: M, the number of pairs; 5 to 10 in the paper. Default 10.
        update_frequency: L, the steps from one average to the next; 10 to 20 in the paper. Default 10.
        curvature: "hessian"; "gauss_newton", that of the loss as a function of the outputs, which the closure must
            provide (:class:`descend.optim.Rows`). Default "hessian".
        sample_fraction: the fraction of the step's rows on which the product is computed. The paper uses six to twelve times the
            rows of a step; a closure may provide as many through its ``differentiable``. Default 1.

    Raises:
        UserError: a setting is outside its domain; the closure returns a loss without its graph.

    >>> w = torch.tensor([4.0, 4.0], requires_grad=True)
    >>> h = torch.tensor([1.0, 0.01])
    >>> optimizer = SQN([w], lr=0.5, update_frequency=2)
    >>> for _ in range(40):
    ...     _ = optimizer.step(lambda: (h * w * w / 2).sum())
    >>> bool(w.abs().max() < 0.01)  # the curvatures differ by a factor of 100: sgd is at 3.3
    True
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 0.01,
        *,
        history_size: Count = 10,
        update_frequency: Count = 10,
        curvature: CurvatureKind = "hessian",
        sample_fraction: Portion = 1.0,
    ) -> None:
        super().__init__(params, locals())

    @property
    def needs(self) -> frozenset[Need]:
        """What the curvature needs, and parts of the rows where ``sample_fraction`` is below 1."""
        return needs_of(self.param_groups[0])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters. The state consists of vectors of the previous length, and is reset: SGD steps come first again."""
        super().add_param_group(param_group)
        self.state.clear()

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Evaluate one gradient, and at every L-th step a product at the average. Nothing waits for the device."""
        gradient = objective.gradient()
        objective.check_graph(gradient.loss)
        if gradient.empty:
            return gradient.loss
        settings, memory = self.param_groups[0], self.memory
        if not memory:
            memory |= {"count": 0, "sum": torch.zeros_like(position.start)}
        count = memory["count"] + 1
        memory["sum"] += position.start
        step = gradient.vector
        if count > 2 * settings["update_frequency"]:
            step = Pairs.of(memory).inverse_times(step)
            if gradient.missing is not None:
                step = step.masked_fill(gradient.missing, 0.0)
        position.move_if_finite(self.times_lr(step), -1.0)
        if count % settings["update_frequency"] == 0:
            self._add_average(objective, position)
        memory["count"] = count
        return gradient.loss

    def _add_average(self, objective: Evaluations, position: Position) -> None:
        """Average the iterates since the last average, and add a pair with the average before."""
        settings, memory = self.param_groups[0], self.memory
        average = memory["sum"] / settings["update_frequency"]
        memory["sum"] = torch.zeros_like(average)
        if "average" in memory:
            if "steps" not in memory:
                memory.update(Pairs(settings["history_size"], average).state())
            iterate = Position(objective.parameters)
            position.put(average)
            step = average - memory["average"]
            part = objective.part(settings["sample_fraction"])
            product = part.hessian() if settings["curvature"] == "hessian" else part.gauss_newton()
            change = product(step)
            iterate.back()
            Pairs.of(memory).add(step, change)
        memory["average"] = average


sqn = SQN
