"""BFGS: an estimate of the inverse second derivative as a full matrix, for few parameters.

With s the step taken and y the change of the gradient along it, the matrix H nearest to the last one that is symmetric and
has H y = s is

    H⁺ = (I − ρ s yᵀ) H (I − ρ y sᵀ) + ρ s sᵀ,   ρ = 1 / sᵀy

(Broyden, Fletcher, Goldfarb, Shanno 1970). Steps −t H g that satisfy the strong Wolfe conditions have sᵀy > 0, so H stays
positive definite and every step leads downhill. Near a minimum the steps become Newton's: convergence is superlinear, from
gradients alone. On a quadratic of n variables with exact searches H is the inverse after n steps.
"""

from __future__ import annotations

from typing import Any, final

import torch
from torch import Tensor
from torch.optim import Optimizer

from descend.cards import method
from descend.optim.along import Found, search
from descend.optim.building import Params, build
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.iterations import Iterations, checked
from descend.optim.whole import Position
from descend.param_types import Count, Positive, Share

__all__ = ["BFGS", "LARGEST", "bfgs"]

LARGEST = 5000
"""Parameters at most: their matrix takes 100 MB in float32, and every step reads and writes it."""


@final
class BFGS(Iterations):
    """x⁺ = x − t H g with H an (n, n) matrix; see :func:`bfgs`.

    The state is ``inverse``, H: n numbers per parameter.

    Raises:
        ValueError: there are more than 5000 parameters.
    """

    def __init__(self, params: Params, lr: float, c1: float, c2: float, iterations: int) -> None:
        super().__init__(params, checked(lr=lr, c1=c1, c2=c2, iterations=iterations))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, as long as their matrix fits."""
        super().add_param_group(param_group)
        count = sum(p.numel() for p in self.everything)
        if count > LARGEST:
            self.param_groups.pop()
            raise ValueError(
                f"it keeps a matrix of n x n numbers, for n = {LARGEST:,} parameters at most; found {count:,}. "
                "lbfgs needs 20 n numbers"
            )

    def iterate(self, asked: Evaluations, position: Position, here: Gradient) -> Found | None:
        """Search along −H g by the strong Wolfe conditions, and change H by the pair.

        Where the search finds nothing H is forgotten, so that the next one goes along −g.
        """
        chosen = self.param_groups[0]
        rate, metric = self.metric()
        gradient = here.vector if metric is None else metric * here.vector
        inverse: Tensor | None = self.memory.get("inverse")
        if inverse is None:  # no curvature is known: a step no longer than the rate
            step = -rate * torch.linalg.vector_norm(gradient).reciprocal().clamp(max=1.0) * gradient
        else:
            step = -rate * inverse.mv(gradient)
        if here.missing is not None:
            step = step.masked_fill(here.missing, 0.0)
        moved = step if metric is None else metric * step
        found = search(asked, position, moved, here, rule="strong_wolfe", c1=chosen["c1"], c2=chosen["c2"])
        if found is None or found.gradient is None:
            self.memory.clear()
            return None
        change = found.gradient.vector - here.vector
        self._learn(found.t * step, change if metric is None else metric * change)
        return found

    def _learn(self, step: Tensor, change: Tensor) -> None:
        curvature, square = torch.dot(step, change), torch.dot(change, change)
        least = torch.finfo(step.dtype).eps * torch.linalg.vector_norm(step) * square.sqrt()
        if not bool(curvature > least):  # a search that ended at its limit, or rounding
            return
        memory = self.memory
        if "inverse" not in memory:
            memory["inverse"] = torch.eye(len(step), dtype=step.dtype, device=step.device).mul_(
                curvature / square
            )
        inverse: Tensor = memory["inverse"]
        scaled, image = step / curvature, inverse.mv(change)
        # H⁺ = H + s wᵀ + w sᵀ, with half of the coefficient of s sᵀ in each.
        other = 0.5 * (1.0 + torch.dot(scaled, change) * torch.dot(change, image) / curvature) * scaled
        other -= image / curvature
        inverse.addr_(step, other).addr_(other, step)


@method(
    row="D2",
    reference="Broyden, Fletcher, Goldfarb and Shanno 1970; Nocedal and Wright 2006, section 6.1",
    formula="x <- x - t H g, H+ = (I - r s y') H (I - r y s') + r s s', r = 1 / s'y, t by the strong Wolfe conditions",
    note='For the loss of all rows, [data] sampling = "full"; with batches lbfgs is the method.',
)
def bfgs(
    params: Params, *, lr: Positive = 1.0, c1: Share = 1e-4, c2: Share = 0.9, iterations: Count = 1
) -> Optimizer:
    """BFGS: Newton's method with a matrix learned from gradients, for up to 5000 parameters.

    An iteration costs two gradients or a few more, and 4 n² multiplications. The state is n² numbers, n per parameter.

    Args:
        params: parameters or groups; rates of groups beside the largest are a change of variables.
        lr: the first length tried along −H g, and the length of the very first step. Default 1.
        c1: the share of the promised decrease that is asked for. Default 1e-4.
        c2: the share of the slope that may be left. Default 0.9.
        iterations: on the same rows, in a step. Default 1.

    Raises:
        UserError: a setting outside its domain; too many parameters; ``step`` without a closure.

    >>> x = torch.tensor([-1.2, 1.0], dtype=torch.float64, requires_grad=True)
    >>> optimizer = bfgs([x], iterations=40)
    >>> _ = optimizer.step(lambda: (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2)  # Rosenbrock's valley
    >>> [round(each, 6) for each in x.tolist()]
    [1.0, 1.0]
    """
    return build(BFGS, params, {"lr": lr, "c1": c1, "c2": c2, "iterations": iterations})
