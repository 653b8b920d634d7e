"""Gradients that explode towards the first layers."""

from __future__ import annotations

import math

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program

__all__ = ["ExplodingGradients"]

LARGE = 1e4
"""The size of the first layer's gradient, in those of the last one, above which it counts as exploding."""


@method(
    row="I2",
    reference="Bengio, Simard and Frasconi 1994; Pascanu, Mikolov and Bengio 2013",
    formula="||dF/dW_1|| / ||dF/dW_k|| -> inf",
)
class ExplodingGradients(Cause):
    """The gradients of some layers are many times larger than the weights can take.

    A product of many factors above 1: weights that are too large, many layers without a norm, long sequences.
    """

    title = "Gradients explode."
    advice = "Clip the norm of the gradient, use a norm between layers, and an initialization made for the activation."
    explains = ("learning_rate_too_high",)

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the sizes of the layers' gradients."""
        sizes = program.layer_gradients
        if len(sizes) < 3:
            return None
        names = list(sizes)
        last, first = max(sizes[name] for name in names[-2:]), sizes[names[0]]
        bad = [name for name, size in sizes.items() if not math.isfinite(size)]
        if bad:
            return cls.found(
                0.9, f"the gradient of {bad[0]} is not finite", remedy={"gradient.clip_norm": 1.0}
            )
        if not last > 0 or first < LARGE * last:
            return None
        evidence = f"the gradient of {names[0]} is {first / last:.2g} times that of the last layers"
        return cls.found(0.85, evidence, remedy={"gradient.clip_norm": 1.0})
