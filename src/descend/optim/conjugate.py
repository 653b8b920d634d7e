"""Nonlinear conjugate gradients by Polak and Ribière.

    d = −g + β d⁻,   β = max(0, g·(g − g⁻) / g⁻·g⁻),   x⁺ = x + t d

with t by the strong Wolfe conditions and a small remaining slope (c₂ = 0.1). On a quadratic of n variables with exact
line searches the directions are conjugate and the minimum is reached in n steps, as with
:func:`descend.linalg.conjugate_gradient`; elsewhere it is about as fast as long as the loss is nearly quadratic. The
method stores one vector, and neither a matrix nor pairs.

β = 0 is a restart along −g. It happens automatically after a short step, which leaves g close to g⁻, and where two
successive gradients are far from orthogonal, |g·g⁻| ≥ ν ‖g‖², so that the conjugacy of the directions is lost (Powell 1977).

Both gradients in β are of the same rows: β is computed at the end of a step, where the line search has computed the
gradient.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor

from descend.cards import method
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.iterations import Iterations
from descend.optim.line_search import SearchResult, search_along
from descend.optim.vector_step import Position
from descend.param_types import Count, Positive, Share

__all__ = ["CG", "cg"]


@method(
    row="D2",
    reference="Polak and Ribiere 1969; Powell 1977; Nocedal and Wright 2006, section 5.2",
    formula="d = -g + b d-, b = max(0, g.(g - g-) / g-.g-), x <- x + t d, t by the strong Wolfe conditions",
    note='For the loss of all rows, [data] sampling = "full".',
)
@final
class CG(Iterations):
    """Nonlinear conjugate gradients: nearly as fast as a quasi-Newton method on smooth losses, with one stored vector.

    An iteration costs two or three gradients, those of its line search. The state is ``carried``, β d for the next
    direction, one number per parameter, and ``fall``, the first-order decrease of F predicted for the last step. Where
    the line search fails, the next direction is −g.

    Args:
        params: parameters or groups; where their learning rates differ, the ratios to the largest act as a change of
            variables.
        lr: the length of the first step tried. Later ones are derived from the step before. Default 1.
        max_iter: iterations on the same rows in a step. Default 1.
        c1: the share of the decrease predicted by the slope that is required. Default 1e-4.
        c2: the share of the slope that may remain. Default 0.1.
        restart_threshold: ν; the next direction is −g where |g·g⁻| ≥ ν ‖g‖². Default 0.2, Powell's.

    Raises:
        UserError: a setting is outside its domain; ``step`` is called without a closure.

    >>> x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    >>> h = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    >>> optimizer = CG([x], max_iter=3, c2=1e-3)  # three variables in three iterations
    >>> _ = optimizer.step(lambda: (h * x * x / 2 - x).sum())
    >>> [round(each, 4) for each in (h * x).tolist()]
    [1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        max_iter: Count = 1,
        *,
        c1: Share = 1e-4,
        c2: Share = 0.1,
        restart_threshold: Positive = 0.2,
    ) -> None:
        super().__init__(params, locals())

    def iterate(self, objective: Evaluations, position: Position, gradient: Gradient) -> SearchResult | None:
        """Search along the direction, and compute β for the next one."""
        settings, memory = self.param_groups[0], self.memory
        lr, metric = self.metric()
        vector = gradient.vector if metric is None else metric * gradient.vector
        direction, slope = self._direction(vector, gradient.missing)
        # The first step is at most as long as the learning rate; later ones predict the decrease of the last step.
        initial = min(1.0, 1.0 / max(-slope, 1e-300) ** 0.5)
        if "fall" in memory and slope < 0:
            initial = memory["fall"] / (float(lr) * slope) if lr else 0.0
        step = lr * direction
        result = search_along(
            objective,
            position,
            step if metric is None else metric * step,
            gradient,
            line_search="strong_wolfe",
            initial=initial,
            c1=settings["c1"],
            c2=settings["c2"],
        )
        if result is None or result.gradient is None:
            memory.clear()
            return None
        after = result.gradient.vector if metric is None else metric * result.gradient.vector
        memory["carried"] = carried_direction(direction, vector, after, settings["restart_threshold"])
        memory["fall"] = result.t * float(lr) * slope
        return result

    def _direction(self, gradient: Tensor, missing: Tensor | None) -> tuple[Tensor, float]:
        """Return the direction and its slope: −g + β d⁻ if that is a descent direction, else −g."""
        square = -float(torch.dot(gradient, gradient))
        if "carried" not in self.memory:
            return -gradient, square
        direction = self.memory["carried"] - gradient
        if missing is not None:
            direction = direction.masked_fill(missing, 0.0)
        slope = float(torch.dot(direction, gradient))
        return (direction, slope) if slope < 0 else (-gradient, square)


def carried_direction(direction: Tensor, before: Tensor, after: Tensor, threshold: float) -> Tensor:
    """Return β d with β = max(0, g·(g − g⁻) / g⁻·g⁻), or 0 where |g·g⁻| ≥ ν ‖g‖².

    Args:
        direction: d, (n,).
        before: g⁻, the gradient where the step started, (n,).
        after: g, the gradient where it ended, (n,).
        threshold: ν.
    """
    square, across = torch.dot(after, after), torch.dot(after, before)
    beta = ((square - across) / torch.dot(before, before)).clamp(min=0.0)
    lost = across.abs() >= threshold * square
    return torch.where(lost, torch.zeros_like(direction), beta * direction)


cg = CG
