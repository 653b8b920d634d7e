"""Gradients that vanish towards the first layers."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.causes.wording import listed
from descend.doctor.findings import Finding
from descend.doctor.program import Program
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["VanishingGradients"]

SMALL = 1e-4
"""The size of the first layer's gradient, as a share of the last one's, below which it counts as vanishing."""

SMALL_DERIVATIVES = {
    "sigmoid": "at most 1/4", "tanh": "near 0 where it saturates", "sign": "0", "step": "0", "softsign": "near 0 far from 0",
    "hardtanh": "0 beyond 1", "hardsigmoid": "at most 1/6",
}  # fmt: skip
"""Activations whose derivatives are small, and how small."""


@method(
    row="I2",
    reference="Hochreiter 1991; Glorot and Bengio 2010",
    formula="||dF/dW_1|| / ||dF/dW_k|| -> 0 with the depth k",
)
class VanishingGradients(Cause):
    """The gradients of the first layers are many times smaller than those of the last ones.

    A product of many factors below 1, as the derivatives of sigmoids are (at most 1/4), or of an activation without a
    gradient, such as sign. The first layers are then not trained.
    """

    title = "Gradients vanish: the first layers hardly receive any."
    advice = (
        "Use relu, silu or tanh with a norm or residual connections, and an initialization made for them."
    )
    explains = ("learning_rate_too_low",)

    @classmethod
    def before_training(cls, program: Program) -> Finding | None:
        """Compare the sizes of the layers' gradients."""
        sizes = program.layer_gradients
        if len(sizes) < 3:
            return None
        names = list(sizes)
        last = max(sizes[name] for name in names[-2:])
        first = sizes[names[0]]
        if not last > 0 or first > SMALL * last:
            return None
        zero = [name for name in names[:-1] if sizes[name] == 0.0]
        evidence = f"the gradient of {names[0]} is {first / last:.2g} of that of the last layers"
        if zero:
            return cls.found(0.9, f"the gradients of {listed(zero)} are exactly 0")
        return cls.found(0.85, evidence, remedy={"model.activation": "relu", "model.norm": "batch"})

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """Another activation, where the recipe's has a derivative that is small or 0."""
        activation = case.value("model.activation")
        name = activation.get("name") if isinstance(activation, dict) else activation
        if name not in SMALL_DERIVATIVES:
            return []
        hidden = case.value("model.hidden") or ()
        evidence = f"{len(hidden)} hidden layers with {name}, whose derivative is {SMALL_DERIVATIVES[name]}"
        return [cls.proposal({"model.activation": "silu"}, evidence)]
