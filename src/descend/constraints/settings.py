"""The [constrain] section of a recipe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["ConditionSpec", "ConstrainSettings", "ConstraintSpec"]

ConstraintSpec = str | tuple[str, ...] | dict[str, Any]
"""A pattern of names of weights, several patterns, or a table with the key ``pattern`` and settings."""

ConditionSpec = str | tuple[str, ...] | dict[str, Any] | Callable[..., Any]
"""A function of the model or its import path, several of them, or a table with the key ``function`` and settings."""


@dataclass(frozen=True, kw_only=True)
class ConstrainSettings:
    """Constraints that weights satisfy after every step, in their averages and in exported models; and general conditions.

    Each of the first four keys is a constraint. Its value is a pattern of the names of weights (``"linear1.weight"``) or
    of the layers that contain them (``"linear*"``), several such patterns, or a table with the key ``pattern`` and the
    constraint's settings. A weight has at most one constraint.

    Args:
        orthogonal: orthonormal rows or columns; settings ``method`` and ``strength``.
        norm_ball: a bound on the norm of each unit's weights; settings ``radius``, ``norm`` and ``over``.
        simplex: non-negative weights of each unit with a fixed sum; settings ``total`` and ``over``.
        binary: weights with two values; setting ``scale``.
        inequality: a function c of the network with c ≤ 0, as an import path ``package.module:function``,
            several, or a table with the key ``function`` and the settings of :func:`descend.constraints.inequality`. It is
            satisfied at the end of training, up to a tolerance, and not at every step.
        equality: likewise a function with c = 0.
    """

    orthogonal: ConstraintSpec | None = None
    norm_ball: ConstraintSpec | None = None
    simplex: ConstraintSpec | None = None
    binary: ConstraintSpec | None = None
    inequality: ConditionSpec | None = None
    equality: ConditionSpec | None = None
