"""Clipping that changes every gradient."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["ClippingAlways"]


@method(row="I3", reference="Pascanu, Mikolov and Bengio 2013", formula="||g|| > c at every step: g c/||g||")
class ClippingAlways(Cause):
    """The norm of the gradient is above the limit of clipping at every step, so that all steps have the same length.

    Clipping is meant for rare large gradients. A limit below the usual norm lowers the learning rate of methods that do not
    divide by the size of the gradient.
    """

    title = "Gradient clipping shortens every gradient."
    advice = "Raise the limit of clipping above the usual norm of the gradient, or remove it."
    explains = ("learning_rate_too_low",)

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """No clipping, where the recorded norms are above the limit."""
        limit = case.value("gradient.clip_norm")
        norms = [
            float(each["gradient_norm"]) for each in case.history if each.get("gradient_norm") is not None
        ]
        if not isinstance(limit, float | int) or not norms:
            return []
        share = sum(norm >= 0.99 * limit for norm in norms) / len(norms)
        if share < 0.9:
            return []
        return [
            cls.proposal(
                {"gradient.clip_norm": "none"},
                f"the limit {limit:g} was reached in {round(100 * share)} % of the epochs",
            )
        ]
