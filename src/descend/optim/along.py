"""F along a step: a line search on an objective, with the gradient where it ends."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from descend.optim.evaluation import Evaluations, Gradient
from descend.optim.line_search import armijo, strong_wolfe
from descend.optim.whole import Position

__all__ = ["Found", "LineSearch", "search"]

LineSearch = Literal["none", "armijo", "strong_wolfe"]
"""How far along a direction: as far as it is long; until the loss falls enough; until the slope is nearly gone, too."""


class Found(NamedTuple):
    """Where a search ended: the share of the step, and the gradient there if it was computed."""

    t: float
    gradient: Gradient | None


def search(
    asked: Evaluations,
    position: Position,
    step: Tensor,
    here: Gradient,
    *,
    rule: LineSearch,
    first: float = 1.0,
    c1: float = 1e-4,
    c2: float = 0.9,
) -> Found | None:
    """Move the parameters along ``step``; where no length of it passes the rule, leave them where they are.

    A place where the loss or its slope is not a number never passes, and from one where they are not there is no step.

    Args:
        asked: the objective.
        position: where the step starts.
        step: from there, (n,).
        here: the gradient there.
        rule: "none", which waits for nothing and takes the whole step; "armijo"; "strong_wolfe".
        first: the first share that is tried. Default 1.
        c1: of Armijo's test. Default 1e-4.
        c2: of the slope's. Default 0.9.
    """
    if rule == "none":
        position.move(step, first)
        return Found(first, None)
    slope = float(torch.dot(step, here.vector))
    last = Found(0.0, here)

    def value_at(t: float) -> float:
        position.move(step, t)
        return asked.value()

    def both_at(t: float) -> tuple[float, float]:
        nonlocal last
        position.move(step, t)
        last = Found(t, asked.gradient())
        assert last.gradient is not None
        along = float(torch.dot(step, last.gradient.vector))
        return last.gradient.number if math.isfinite(along) else math.nan, along

    if rule == "armijo":
        least = torch.finfo(step.dtype).eps ** 2
        point = armijo(value_at, here.number, slope, first=first, c=c1, least=least)
        if point is not None:
            return Found(point.t, None)
    else:
        point = strong_wolfe(both_at, here.number, slope, first=first, c1=c1, c2=c2)
        if point is not None and point.t == last.t:
            return last
        if point is not None:
            position.move(step, point.t)
            return Found(point.t, asked.gradient())
    position.back()
    return None
