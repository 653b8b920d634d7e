"""Learning-rate schedules.

A schedule returns the factor of every base learning rate ([optimizer] lr) at step 0, 1, 2, …. All schedules but
``plateau``, which monitors a loss, are closed forms of the step, and have no state to save. In the formulas t_k is the
learning rate and a the base learning rate. Where a schedule has the parameter ``per``, its index k counts steps or finished
epochs. With ``warmup`` = w epochs of s steps the factor is multiplied by min(1, (step + 1)/(w s)), which is PyTorch's
``LinearLR`` with start_factor 1/(w s).

The classical conditions for the convergence of SGD are Σ t_k = ∞ and Σ t_k² < ∞; of these schedules only ``inverse``
satisfies them.
"""

from __future__ import annotations

from collections.abc import Callable

from descend.schedules._plateau import Plateau, plateau
from descend.schedules.base import ClosedForm, Schedule
from descend.schedules.closed_form import (
    constant,
    cosine,
    coslog4,
    exponential,
    flat_cosine,
    inverse,
    one_cycle,
    staircase,
    warmup,
)

__all__ = [
    "SCHEDULES",
    "ClosedForm",
    "Plateau",
    "Schedule",
    "constant",
    "cosine",
    "coslog4",
    "exponential",
    "flat_cosine",
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
    "coslog4": coslog4,
    "flat_cosine": flat_cosine,
}
"""The schedules by name, each a function of the steps per epoch, the total steps and its settings."""
