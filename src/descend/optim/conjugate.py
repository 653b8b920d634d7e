"""Nonlinear conjugate gradients, by Polak and Ribière.

    d = −g + β d⁻,   β = max(0, g·(g − g⁻) / g⁻·g⁻),   x⁺ = x + t d

with t by the strong Wolfe conditions, whose slope is to be nearly gone (c₂ = 0.1). On a quadratic of n variables with exact
searches the directions are conjugate and the minimum is reached in n steps, as by
:func:`descend.linalg.conjugate_gradient`; elsewhere it is about as fast while the loss is like a quadratic. It needs no
matrix and no pairs: one vector is remembered.

β = 0 is a restart along −g. It comes by itself after a short step, which leaves g like g⁻; and where two gradients in a
row are far from orthogonal, |g·g⁻| ≥ ν ‖g‖², so that the directions' conjugacy is lost (Powell 1977).

Both gradients of a β are of the same rows: β is taken at the end of a step, where the search has computed the gradient.
"""

from __future__ import annotations

from typing import final

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

__all__ = ["CG", "cg"]


@final
class CG(Iterations):
    """x⁺ = x + t d with conjugate directions d; see :func:`cg`.

    The state is ``carried``, β d for the next direction, one number per parameter, and ``fall``, how much the last step was
    to lower F to first order.
    """

    def __init__(
        self, params: Params, lr: float, c1: float, c2: float, restart: float, iterations: int
    ) -> None:
        if not restart > 0:
            raise ValueError(f"restart must be above 0; found {restart}")
        super().__init__(params, checked(lr=lr, c1=c1, c2=c2, iterations=iterations) | {"restart": restart})

    def iterate(self, asked: Evaluations, position: Position, here: Gradient) -> Found | None:
        """Search along the direction; where nothing is found, the next one starts again from −g."""
        chosen, memory = self.param_groups[0], self.memory
        rate, metric = self.metric()
        gradient = here.vector if metric is None else metric * here.vector
        direction, slope = self._direction(gradient, here.missing)
        # The same decrease as at the last step, to first order; at first a step no longer than the rate.
        first = min(1.0, 1.0 / max(-slope, 1e-300) ** 0.5)
        if "fall" in memory and slope < 0:
            first = memory["fall"] / (float(rate) * slope) if rate else 0.0
        step = rate * direction
        found = search(
            asked,
            position,
            step if metric is None else metric * step,
            here,
            rule="strong_wolfe",
            first=first,
            c1=chosen["c1"],
            c2=chosen["c2"],
        )
        if found is None or found.gradient is None:
            memory.clear()
            return None
        after = found.gradient.vector if metric is None else metric * found.gradient.vector
        square, across = torch.dot(after, after), torch.dot(after, gradient)
        beta = ((square - across) / torch.dot(gradient, gradient)).clamp(min=0.0)
        lost = across.abs() >= chosen["restart"] * square
        memory["carried"] = torch.where(lost, torch.zeros_like(direction), beta * direction)
        memory["fall"] = found.t * float(rate) * slope
        return found

    def _direction(self, gradient: Tensor, missing: Tensor | None) -> tuple[Tensor, float]:
        """The next direction and its slope: −g unless what is carried leads downhill."""
        square = -float(torch.dot(gradient, gradient))
        if "carried" not in self.memory:
            return -gradient, square
        direction = self.memory["carried"] - gradient
        if missing is not None:
            direction = direction.masked_fill(missing, 0.0)
        slope = float(torch.dot(direction, gradient))
        return (direction, slope) if slope < 0 else (-gradient, square)


@method(
    row="D2",
    reference="Polak and Ribiere 1969; Powell 1977; Nocedal and Wright 2006, section 5.2",
    formula="d = -g + b d-, b = max(0, g.(g - g-) / g-.g-), x <- x + t d, t by the strong Wolfe conditions",
    note='For the loss of all rows, [data] sampling = "full".',
)
def cg(
    params: Params,
    *,
    lr: Positive = 1.0,
    c1: Share = 1e-4,
    c2: Share = 0.1,
    restart: Positive = 0.2,
    iterations: Count = 1,
) -> Optimizer:
    """Nonlinear conjugate gradients: of the speed of a quasi-Newton method on smooth losses, with one vector of memory.

    An iteration costs two or three gradients, those of its line search. The state is one number per parameter.

    Args:
        params: parameters or groups; rates of groups beside the largest are a change of variables.
        lr: the length of the first step tried. Later ones are found from the one before. Default 1.
        c1: the share of the promised decrease that is asked for. Default 1e-4.
        c2: the share of the slope that may be left. Default 0.1.
        restart: ν; the next direction is −g where |g·g⁻| ≥ ν ‖g‖². Default 0.2, Powell's.
        iterations: on the same rows, in a step. Default 1.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure.

    >>> x = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    >>> h = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
    >>> optimizer = cg([x], c2=1e-3, iterations=3)  # of three variables in three iterations
    >>> _ = optimizer.step(lambda: (h * x * x / 2 - x).sum())
    >>> [round(each, 4) for each in (h * x).tolist()]
    [1.0, 1.0, 1.0]
    """
    settings = {"lr": lr, "c1": c1, "c2": c2, "restart": restart, "iterations": iterations}
    return build(CG, params, settings)
