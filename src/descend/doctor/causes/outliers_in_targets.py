"""Targets with a few extreme values."""

from __future__ import annotations

import torch

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.runs.plan import Plan

__all__ = ["OutliersInTargets"]


@method(row="I3", reference="Huber 1964", formula="|y - median| > 20 (q_75 - q_25) for some rows")
class OutliersInTargets(Cause):
    """A few targets are so far from the others that they dominate the squared loss and its gradients."""

    title = "A few targets are extreme and dominate the loss."
    advice = "Check these rows, use the loss huber, or learn the logarithm of positive targets."
    explains = ("learning_rate_too_low",)

    @classmethod
    def in_data(cls, planned: Plan) -> Finding | None:
        """Compare the farthest targets with the quartiles."""
        part, schema = planned.prepared.train, planned.prepared.schema
        if schema.task not in ("regression", "multi_regression") or len(part) < 30:
            return None
        if planned.recipe.loss.get("name") != "mse":
            return None
        targets = part.targets.double().reshape(len(part), -1)
        quartiles = torch.quantile(targets, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64), dim=0)
        span = (quartiles[2] - quartiles[0]).clamp_min(1e-12)
        far = (targets - quartiles[1]).abs() / span
        rows = int((far > FAR).any(1).sum())
        squares = (targets - targets.mean(0)).square().sum(1)
        share = float(squares.topk(max(1, rows)).values.sum() / squares.sum().clamp_min(1e-300))
        if not rows or rows > 0.02 * len(part) or share < 0.5:
            return None
        return cls.found(
            0.8,
            f"{rows} of {len(part):,} targets are more than {FAR:g} quartile distances from the median",
            f"they make up {round(100 * share)} % of the variance",
            remedy={"loss.name": "huber"},
        )


FAR = 15.0
"""The distance from the median, in those of the quartiles, from which a target counts as extreme."""
