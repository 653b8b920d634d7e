"""BFGS: a quasi-Newton method with a dense estimate of the inverse Hessian, for few parameters.

With s the step taken and y the change of the gradient along it, the matrix nearest to H that is symmetric and satisfies
the secant equation H y = s is

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / sᵀy

(Broyden, Fletcher, Goldfarb, Shanno 1970). Steps −t H g that satisfy the strong Wolfe conditions have sᵀy > 0, so H stays
positive definite and every step is a descent step. Near a minimum the steps approach Newton's, and convergence is
superlinear from gradients alone. On a quadratic of n variables with exact line searches H is the inverse after n steps.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor

from descend.cards import method
from descend.errors import UserError
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.iterations import Iterations
from descend.optim.line_search import SearchResult, search_along
from descend.optim.vector_step import Position
from descend.param_types import Count, Positive, Share

__all__ = ["BFGS", "MAX_PARAMETERS", "bfgs"]

MAX_PARAMETERS = 5000
"""The largest number of parameters: the matrix takes 100 MB in float32, and every step reads and writes it."""


@method(
    row="D2",
    reference="Broyden, Fletcher, Goldfarb and Shanno 1970; Nocedal and Wright 2006, section 6.1",
    formula="x <- x - t H g, H+ = (I - r s y') H (I - r y s') + r s s', r = 1 / s'y, t by the strong Wolfe conditions",
    note='For the loss of all rows, [data] sampling = "full"; use lbfgs for batches.',
)
@final
class BFGS(Iterations):
    """BFGS: Newton's method with a matrix estimated from gradients, for up to 5,000 parameters.

    An iteration costs two gradients or a few more, and 4 n² multiplications. The state is ``inverse``, the matrix H:
    n² numbers, n per parameter. Where the line search fails H is reset, so that the next search is along −g.

    Args:
        params: parameters or groups; where their learning rates differ, the ratios to the largest act as a change of
            variables.
        lr: the first step size tried along −H g, and the length of the very first step. Default 1.
        max_iter: iterations on the same rows in a step. Default 1.
        c1: the share of the decrease predicted by the slope that is required. Default 1e-4.
        c2: the share of the slope that may remain. Default 0.9.

    Raises:
        UserError: a setting is outside its domain; there are too many parameters; ``step`` is called without a closure.

    >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    >>> optimizer = BFGS([x], max_iter=40)
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
        c1: Share = 1e-4,
        c2: Share = 0.9,
    ) -> None:
        super().__init__(params, locals())

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, up to the largest number that is supported."""
        super().add_param_group(param_group)
        count = sum(p.numel() for p in self.all_parameters)
        if count > MAX_PARAMETERS:
            self.param_groups.pop()
            raise UserError(
                f"bfgs: BFGS stores a dense n×n matrix and supports at most {MAX_PARAMETERS:,} parameters "
                f"(got {count:,}); use lbfgs instead"
            )

    def iterate(self, objective: Evaluations, position: Position, gradient: Gradient) -> SearchResult | None:
        """Search along −H g by the strong Wolfe conditions, and update H by the pair."""
        settings = self.param_groups[0]
        lr, metric = self.metric()
        vector = gradient.vector if metric is None else metric * gradient.vector
        inverse: Tensor | None = self.memory.get("inverse")
        if inverse is None:  # the curvature is unknown: the step is at most as long as the learning rate
            step = -lr * torch.linalg.vector_norm(vector).reciprocal().clamp(max=1.0) * vector
        else:
            step = -lr * inverse.mv(vector)
        if gradient.missing is not None:
            step = step.masked_fill(gradient.missing, 0.0)
        result = search_along(
            objective,
            position,
            step if metric is None else metric * step,
            gradient,
            line_search="strong_wolfe",
            c1=settings["c1"],
            c2=settings["c2"],
        )
        if result is None or result.gradient is None:
            self.memory.clear()
            return None
        change = result.gradient.vector - gradient.vector
        self._update(result.t * step, change if metric is None else metric * change)
        return result

    def _update(self, step: Tensor, change: Tensor) -> None:
        curvature, square = torch.dot(step, change), torch.dot(change, change)
        smallest = torch.finfo(step.dtype).eps * torch.linalg.vector_norm(step) * square.sqrt()
        if not bool(curvature > smallest):  # the line search ended at its limit, or rounding
            return
        memory = self.memory
        if "inverse" not in memory:
            memory["inverse"] = torch.eye(len(step), dtype=step.dtype, device=step.device).mul_(
                curvature / square
            )
        bfgs_update(memory["inverse"], step, change, curvature)


def bfgs_update(inverse: Tensor, step: Tensor, change: Tensor, curvature: Tensor) -> None:
    """Set H ← (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ in place, with ρ = 1 / sᵀy.

    It is computed as H + s wᵀ + w sᵀ, with half of the coefficient of s sᵀ in each term.

    Args:
        inverse: H, (n, n), symmetric.
        step: s, (n,).
        change: y, (n,).
        curvature: sᵀy > 0, ().
    """
    scaled, image = step / curvature, inverse.mv(change)
    w = 0.5 * (1.0 + torch.dot(scaled, change) * torch.dot(change, image) / curvature) * scaled
    w -= image / curvature
    inverse.addr_(step, w).addr_(w, step)


bfgs = BFGS
