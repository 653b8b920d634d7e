"""Block coordinate descent: the parameters by turns, each block along its own gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch.optim import Optimizer

from descend.domains import Count, Natural, Positive, Share
from descend.method import method
from descend.optim.along import search
from descend.optim.building import Params, build
from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.whole import Position, WholeStep
from descend.randomness import generator

__all__ = ["CoordinateDescent", "coordinate_descent"]

Rule = Literal["armijo", "exact"]
Order = Literal["cyclic", "random"]


@final
class CoordinateDescent(WholeStep):
    """A step is a sweep: every block once, along minus its gradient; see :func:`coordinate_descent`.

    The state is ``count``, the number of sweeps, and ``lengths``, the last t of each block (float64).
    """

    def __init__(
        self, params: Params, lr: float, size: int | None, rule: Rule, order: Order, c1: float, c2: float, seed: int
    ) -> None:
        if not lr >= 0:
            raise ValueError(f"lr must be 0 or more; found {lr}")
        if size is not None and size < 1:
            raise ValueError(f"size must be 1 or more, or None; found {size}")
        super().__init__(
            params,
            {"lr": lr, "size": size, "rule": rule, "order": order, "c1": c1, "c2": c2, "seed": seed},
        )

    @property
    def name(self) -> str:
        """As in the catalogue."""
        return "coordinate_descent"

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
        lengths = memory["lengths"].tolist() if memory else [0.5] * len(blocks)
        here: Gradient | None = asked.gradient()
        loss = here.loss
        if here.empty:
            return loss
        for at in self._order(len(blocks), count):
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
                first=lengths[at] * (2.0 if chosen["rule"] == "armijo" else 1.0),
                c1=chosen["c1"],
                c2=chosen["c2"],
            )
            if found is not None:
                lengths[at] = found.t
                here = found.gradient
        memory["count"] = count + 1
        memory["lengths"] = torch.tensor(lengths, dtype=torch.float64, device=position.start.device)
        return loss

    def _order(self, blocks: int, count: int) -> Sequence[int]:
        if self.param_groups[0]["order"] == "cyclic":
            return range(blocks)
        order: list[int] = torch.randperm(
            blocks, generator=generator(self.param_groups[0]["seed"], "blocks", step=count)
        ).tolist()
        return order


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
    c1: Share = 1e-4,
    c2: Share = 0.1,
    seed: Natural = 0,
) -> Optimizer:
    """CD.
    """
    return build(CoordinateDescent, params, {"lr": lr, "size": size, "rule": rule, "order": order, "c1": c1, "c2": c2, "seed": seed})
