"""Block coordinate descent: the parameters by turns, each block along its own gradient.

A step is a sweep over all blocks. With g_b the part of the gradient that belongs to block b,

    x_b⁺ = x_b − t g_b,   t by Armijo's test, or where the slope along −g_b is gone

and each block sees what those before it did. F never grows. On a quadratic, blocks of one entry with exact steps are the
method of Gauss and Seidel. A block of a network is a layer's weight or bias: each has its own length of step, which
gradient descent has not.

Here every block costs a gradient of all parameters, since that is what a backward pass gives. The method is of use where a
coordinate's own derivative is much cheaper, which this objective does not offer; it is here as one of the basics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, final

import torch
from torch.optim import Optimizer

from descend.cards import method
from descend.optim.along import search
from descend.optim.building import Params, build
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.iterations import checked
from descend.optim.whole import Position, WholeStep
from descend.param_types import Count, Natural, Positive, Share
from descend.rng import generator

__all__ = ["CoordinateDescent", "coordinate_descent"]

Rule = Literal["armijo", "exact"]
Order = Literal["cyclic", "random"]

_SHARES: Mapping[Rule, float] = {"armijo": 0.5, "exact": 1e-4}
"""c1 where it is not given. The minimum itself has 1/2 on a quadratic, which rounding would take from an exact step."""


@final
class CoordinateDescent(WholeStep):
    """A step is a sweep: every block once, along minus its gradient; see :func:`coordinate_descent`.

    The state is ``count``, the number of sweeps, and ``lengths``, the last t of each block (float64).
    """

    def __init__(
        self,
        params: Params,
        lr: float,
        size: int | None,
        rule: Rule,
        order: Order,
        c1: float | None,
        c2: float,
        seed: int,
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be 0 or more; found {lr}")
        if size is not None and size < 1:
            raise ValueError(f"size must be 1 or more, or None; found {size}")
        if rule not in ("armijo", "exact"):
            raise ValueError(f"rule must be armijo or exact; found {rule!r}")
        if order not in ("cyclic", "random"):
            raise ValueError(f"order must be cyclic or random; found {order!r}")
        settings = checked(lr=lr, c1=_SHARES[rule] if c1 is None else c1, c2=c2)
        super().__init__(params, settings | {"size": size, "rule": rule, "order": order, "seed": seed})

    def blocks(self) -> list[slice]:
        """Where each block lies in the vector of all parameters."""
        found, start = [], 0
        for p in self.everything:
            stop = start + p.numel()
            size = self.param_groups[0]["size"] or max(p.numel(), 1)
            found += [slice(at, min(at + size, stop)) for at in range(start, stop, size)]
            start = stop
        return found

    def advance(self, asked: Evaluations, position: Position) -> Any:
        """One sweep."""
        chosen, memory, blocks = self.param_groups[0], self.memory, self.blocks()
        count = memory.get("count", 0)
        lengths = memory["lengths"].tolist() if memory else []
        longer = 2.0 if chosen["rule"] == "armijo" else 1.0
        lengths += [1.0 / longer] * (len(blocks) - len(lengths))
        first = asked.gradient()
        if first.empty:
            return first.loss
        here: Gradient | None = first
        for at in self.order_of(chosen["order"], len(blocks), seed=chosen["seed"], sweep=count):
            here = asked.gradient() if here is None else here
            step = torch.zeros_like(position.start)
            step[blocks[at]] = -here.vector[blocks[at]]
            step = self.by_rate(step)
            found = search(
                asked,
                Position(asked.parameters),
                step,
                here,
                rule="armijo" if chosen["rule"] == "armijo" else "strong_wolfe",
                first=longer * lengths[at],
                c1=chosen["c1"],
                c2=chosen["c2"],
            )
            if found is not None:
                lengths[at] = found.t
                here = found.gradient
        memory["count"] = count + 1
        memory["lengths"] = torch.tensor(lengths, dtype=torch.float64, device=position.start.device)
        return first.loss

    @staticmethod
    def order_of(order: Order, blocks: int, *, seed: int, sweep: int) -> list[int]:
        """The order of the blocks in a sweep."""
        if order == "cyclic":
            return list(range(blocks))
        # Sorted by a random number of each, so that a further block leaves the order of the others.
        drawn = torch.rand(blocks, generator=generator(seed, "blocks", step=sweep))
        found: list[int] = drawn.argsort(stable=True).tolist()
        return found


@method(
    row="D2",
    reference="Nocedal and Wright 2006, section 9.3; Wright 2015",
    formula="x_b <- x_b - t_b g_b, for each block b by turns, with t_b by Armijo's test or exact",
)
def coordinate_descent(
    params: Params,
    *,
    lr: Positive = 1.0,
    size: Count | None = None,
    rule: Rule = "armijo",
    order: Order = "cyclic",
    c1: Share | None = None,
    c2: Share = 1e-3,
    seed: Natural = 0,
) -> Optimizer:
    """Block coordinate descent: one block of parameters after the other, each along its own gradient.

    A step is a sweep and costs a gradient and a few losses for each block. The state is one number for each block.

    Args:
        params: parameters or groups, each with its own rate.
        lr: the first t tried for a block at the first sweep, and a factor of all. Default 1.
        size: entries of a block, in the order of the parameter's memory; None for whole parameter tensors. Default None.
        rule: "armijo", from twice the block's last t; "exact", the minimum along the block's gradient, from the last t.
            Default "armijo".
        order: of the blocks: "cyclic", or "random", anew at each sweep. Default "cyclic".
        c1: the share of the promised decrease that is asked for. On a quadratic, 1/2 takes steps up to the minimum along
            the block's gradient, and less takes some beyond it: 1e-4 almost to the other side, from where the next sweep
            comes back. Default None: 1/2 for "armijo", 1e-4 for "exact".
        c2: the share of the slope that an exact step may leave. Default 1e-3.
        seed: of random orders, which depend on it and on the number of the sweep alone. Default 0.

    Raises:
        UserError: a setting outside its domain; ``step`` without a closure.

    >>> x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    >>> optimizer = coordinate_descent([x], size=1, rule="exact", c2=1e-9)
    >>> _ = optimizer.step(lambda: x[0] ** 2 + x[0] * x[1] + x[1] ** 2 - 2 * x[0])  # first x0 = 1, then x1 = -x0 / 2
    >>> [round(each, 6) for each in x.tolist()]
    [1.0, -0.5]
    """
    settings = {"lr": lr, "size": size, "rule": rule, "order": order, "c1": c1, "c2": c2, "seed": seed}
    return build(CoordinateDescent, params, settings)
