"""The sets that settings are drawn from, as annotated types.

A constructor states its own domain, ``lr: Positive = 1e-3``, and the recipe, the documentation and the
search space read it from there; nothing repeats it. The annotations cost nothing at run time and a
type checker sees the plain type.
"""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge, Gt, Le, Lt

__all__ = [
    "AtLeastOne",
    "BelowAQuarter",
    "Count",
    "Fraction",
    "Natural",
    "NonNegative",
    "Portion",
    "Positive",
    "Probability",
    "Share",
]

Positive = Annotated[float, Gt(0)]
"""A real number above 0: a learning rate, a scale."""

NonNegative = Annotated[float, Ge(0)]
"""A real number, 0 or more: a penalty's weight."""

Fraction = Annotated[float, Ge(0), Lt(1)]
"""A real number in [0, 1): a momentum, a decay of an average."""

Probability = Annotated[float, Ge(0), Le(1)]
"""A real number in [0, 1]."""

Share = Annotated[float, Gt(0), Lt(1)]
"""A real number in (0, 1): a part of the rows."""

Count = Annotated[int, Ge(1)]
"""A whole number, 1 or more: a width, a number of epochs."""

Natural = Annotated[int, Ge(0)]
"""A whole number, 0 or more."""

Portion = Annotated[float, Gt(0), Le(1)]
"""A real number in (0, 1]: a part, or the whole."""

AtLeastOne = Annotated[float, Ge(1)]
"""A real number, 1 or more: a ratio of the larger to the smaller."""

BelowAQuarter = Annotated[float, Ge(0), Lt(0.25)]
"""A real number in [0, 1/4): the ratio of decreases from which a step in a trust region is taken."""
