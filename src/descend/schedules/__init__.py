"""Schedules: which step size at which step.

A schedule gives the factor that multiplies every base rate before step 0, 1, 2, …, as a closed form of the
step alone, so that a resumed run needs nothing saved; only ``plateau``, which watches a loss, has a state.
The lecture's α is the base rate, [optimizer] lr. Where a schedule has ``per``, its k counts steps or finished
epochs; with ``warmup`` = w epochs of s steps the factor is multiplied by min(1, (step + 1)/(w s)), which is
PyTorch's ``LinearLR`` from 1/(w s) on.

Classical convergence of SGD asks Σ t_k = ∞ and Σ t_k² < ∞; of these only ``inverse`` satisfies it.
"""

from __future__ import annotations

from collections.abc import Callable

from descend.schedules._plateau import Plateau, plateau
from descend.schedules.base import ClosedForm, Schedule
from descend.schedules.closed_form import constant, cosine, exponential, inverse, one_cycle, staircase, warmup

__all__ = [
    "SCHEDULES",
    "ClosedForm",
    "Plateau",
    "Schedule",
    "constant",
    "cosine",
    "exponential",
    "inverse",
    "one_cycle",
    "plateau",
    "staircase",
    "warmup",
]

SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": constant,
    "inverse": inverse,
    "exponential": exponential,
    "staircase": staircase,
    "plateau": plateau,
    "cosine": cosine,
    "warmup": warmup,
    "one_cycle": one_cycle,
}
