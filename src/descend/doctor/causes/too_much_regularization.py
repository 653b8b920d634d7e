"""Regularization that is too strong."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["TooMuchRegularization"]


@method(
    row="I3", reference="the lecture, on regularization", formula="F(w) + lambda ||w||^2 with lambda >> 1"
)
class TooMuchRegularization(Cause):
    """Penalties, weight decay, dropout or label smoothing keep the network from fitting even the training rows."""

    title = "Regularization is too strong: the network does not fit the training rows."
    advice = "Lower weight decay, penalties, dropout and label smoothing."
    explains = ("network_too_small",)

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """The usual strengths, where the recipe has much stronger ones."""
        changes: dict[str, object] = {}
        strong: list[str] = []
        for key, limit, usual in LIMITS:
            value = case.value(key)
            if isinstance(value, float | int) and value > limit:
                changes[key] = usual
                strong.append(f"{key} = {value:g}")
        return [cls.proposal(changes, ", ".join(strong))] if changes else []


LIMITS: tuple[tuple[str, float, object], ...] = (
    ("model.dropout", 0.45, 0.1),
    ("regularize.weight_decay", 0.3, 0.01),
    ("regularize.l2", 0.01, "none"),
    ("regularize.l1", 0.001, "none"),
    ("regularize.l1_prox", 0.001, "none"),
    ("regularize.jacobian", 0.1, "none"),
    ("loss.label_smoothing", 0.35, 0.1),
)
"""Keys, the strengths up to which they are usual, and usual values."""
