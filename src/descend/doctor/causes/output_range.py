"""Outputs whose range does not contain the targets."""

from __future__ import annotations

import math

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.doctor.program import Program

__all__ = ["OutputRange"]

BOUNDS = {"sigmoid": (0.0, 1.0), "softmax": (0.0, 1.0), "tanh": (-1.0, 1.0), "relu": (0.0, math.inf)}
"""The ranges of activations."""


@method(
    row="I3",
    reference="the lecture, on output nodes",
    formula="f(x) in [a, b] for all x, and y outside [a, b]",
)
class OutputRange(Cause):
    """The activation of the last layer has a range that does not contain the targets.

    A sigmoid returns numbers between 0 and 1: no weights make it return 37. A softmax over a single unit always returns 1, and
    one sigmoid unit does not tell three classes apart. The loss then stops falling at a value that no training lowers.
    """

    title = "The outputs cannot reach the targets: the activation of the last layer has another range."
    advice = (
        "Remove the activation of the last layer, or use the one and the number of units that the task needs."
    )
    explains = (
        "learning_rate_too_low",
        "vanishing_gradients",
        "network_too_small",
        "dead_units",
        "unscaled_targets",
    )

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the range of the last activation with that of the targets."""
        call = program.call
        if call is None or call.name in ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits"):
            return None
        width = call.predictions.shape[1] if call.predictions.dim() > 1 else 1
        if call.after == "softmax" and width == 1:
            return cls.found(
                0.97, "a softmax over one unit returns 1 for every row", advice="Use a sigmoid for one unit."
            )
        name = call.after or _last_activation(program)
        if name not in BOUNDS:
            return None
        low, high = BOUNDS[name]
        targets = call.targets.float()
        outside = float(((targets < low - 1e-6) | (targets > high + 1e-6)).float().mean())
        if outside == 0.0:
            return None
        shown = f"[{low:g}, {high:g}]" if math.isfinite(high) else f"[{low:g}, inf)"
        share = f"{round(100 * outside)} % of the targets are outside"
        if program.classes > 2 and width == 1:
            return cls.found(
                0.95,
                f"one unit with {name} for {program.classes} classes; {share} {shown}",
                advice="Use one output per class and cross-entropy.",
            )
        return cls.found(0.95 if outside > 0.1 else 0.6, f"{name} returns values in {shown}, and {share}")


def _last_activation(program: Program) -> str:
    """Return the last activation that was called if the outputs are its result."""
    activations = program.observed.activations
    if not activations or activations[-1].name not in BOUNDS:
        return ""
    width = program.outputs[0].numel()
    low, high = BOUNDS[activations[-1].name]
    inside = bool(((program.outputs >= low) & (program.outputs <= high)).all())
    return (
        activations[-1].name
        if inside and activations[-1].units == width and program.ends_in_activation
        else ""
    )
