"""Block coordinate descent: one block of parameters after another, each along its own gradient.

A step is a sweep over all blocks. With g_b the part of the gradient that belongs to block b,

    x_b⁺ = x_b − t g_b,   t by Armijo's condition, or at the minimum along −g_b

and each block is updated at the result of the previous ones. F never increases. On a quadratic, blocks of one entry with
exact line searches are the Gauss-Seidel method. By default the blocks of a network are its weight and bias tensors; each
has its own step size, unlike in gradient descent.

Each block costs a gradient of all parameters, since a backward pass computes the whole gradient. The method pays off
where a single partial derivative is much cheaper, which this objective does not offer; it is included as a basic method.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch

from descend.cards import method
from descend.optim.base import Params
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.line_search import search_along
from descend.optim.vector_step import Position, VectorStep
from descend.param_types import Count, Natural, Positive, Share
from descend.rng import generator

__all__ = ["CoordinateDescent", "coordinate_descent"]

Search = Literal["armijo", "exact"]
Selection = Literal["cyclic", "random"]

_C1: Mapping[Search, float] = {"armijo": 0.5, "exact": 1e-4}
"""The default of c1. The exact minimum of a quadratic has c1 = 1/2, which an exact step would miss by rounding."""


@method(
    row="D2",
    reference="Nocedal and Wright 2006, section 9.3; Wright 2015",
    formula="x_b <- x_b - t_b g_b, for each block b in turn, with t_b by Armijo's condition or exact",
)
@final
class CoordinateDescent(VectorStep):
    """Block coordinate descent: one block of parameters after another, each along its own gradient.

    A step is a sweep over all blocks, and costs a gradient and a few losses for each of them. The state is ``count``, the
    number of sweeps, and ``lengths``, the last t of each block (float64).

    Args:
        params: parameters or groups, each with its own learning rate.
        lr: the first t tried for a block in the first sweep, and a factor of all. Default 1.
        block_size: entries per block, in the order of the parameter's memory; None for whole parameter tensors.
            Default None.
        line_search: "armijo", starting from twice the block's last t; "exact", the minimum along the block's gradient,
            starting from the last t. Default "armijo".
        selection: the order of the blocks: "cyclic", or "random", a new permutation in each sweep. Default "cyclic".
        c1: the share of the predicted decrease that is required. On a quadratic, 1/2 accepts steps up to the minimum
            along the block's gradient, and smaller values accept some beyond it: with 1e-4 almost to the opposite side,
            from where the next sweep returns. Default None: 1/2 for "armijo", 1e-4 for "exact".
        c2: the share of the slope that an exact step may leave. Default 1e-3.
        seed: the seed of random permutations, which depend only on it and on the number of the sweep. Default 0.

    Raises:
        UserError: a setting is outside its domain; ``step`` is called without a closure.

    >>> x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> optimizer = CoordinateDescent([x], block_size=1, line_search="exact", c2=1e-9)
    >>> _ = optimizer.step(lambda: x[0] ** 2 + x[0] * x[1] + x[1] ** 2 - 2 * x[0])  # first x0 = 1, then x1 = -x0 / 2
    >>> [round(each, 6) for each in x.tolist()]
    [1.0, -0.5]
    """

    def __init__(
        self,
        params: Params,
        lr: Positive = 1.0,
        *,
        block_size: Count | None = None,
        line_search: Search = "armijo",
        selection: Selection = "cyclic",
        c1: Share | None = None,
        c2: Share = 1e-3,
        seed: Natural = 0,
    ) -> None:
        super().__init__(params, locals())

    def blocks(self) -> list[slice]:
        """Return the position of each block in the vector of all parameters."""
        slices, start = [], 0
        for p in self.all_parameters:
            stop = start + p.numel()
            size = self.param_groups[0]["block_size"] or max(p.numel(), 1)
            slices += [slice(at, min(at + size, stop)) for at in range(start, stop, size)]
            start = stop
        return slices

    def advance(self, objective: Evaluations, position: Position) -> Any:
        """Take one sweep."""
        settings, memory, blocks = self.param_groups[0], self.memory, self.blocks()
        search: Search = settings["line_search"]
        c1 = _C1[search] if settings["c1"] is None else settings["c1"]
        count = memory.get("count", 0)
        lengths = memory["lengths"].tolist() if memory else []
        growth = 2.0 if search == "armijo" else 1.0
        lengths += [1.0 / growth] * (len(blocks) - len(lengths))
        first = objective.gradient()
        if first.empty:
            return first.loss
        gradient: Gradient | None = first
        for block in self.order(settings["selection"], len(blocks), seed=settings["seed"], sweep=count):
            gradient = objective.gradient() if gradient is None else gradient
            step = torch.zeros_like(position.start)
            step[blocks[block]] = -gradient.vector[blocks[block]]
            result = search_along(
                objective,
                Position(objective.parameters),
                self.times_lr(step),
                gradient,
                line_search="armijo" if search == "armijo" else "strong_wolfe",
                initial=growth * lengths[block],
                c1=c1,
                c2=settings["c2"],
            )
            if result is not None:
                lengths[block] = result.t
                gradient = result.gradient
        memory["count"] = count + 1
        memory["lengths"] = torch.tensor(lengths, dtype=torch.float64, device=position.start.device)
        return first.loss

    @staticmethod
    def order(selection: Selection, blocks: int, *, seed: int, sweep: int) -> list[int]:
        """Return the order of the blocks in a sweep."""
        if selection == "cyclic":
            return list(range(blocks))
        # Sorting a random number of each block keeps the order of the others when a block is added.
        keys = torch.rand(blocks, generator=generator(seed, "blocks", step=sweep))
        permutation: list[int] = keys.argsort(stable=True).tolist()
        return permutation


coordinate_descent = CoordinateDescent
