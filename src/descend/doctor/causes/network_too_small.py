"""A network that is too small."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["NetworkTooSmall"]


@method(
    row="I3", reference="Hornik, Stinchcombe and White 1989", formula="no w with f(x; w) near y for all rows"
)
class NetworkTooSmall(Cause):
    """The network has too few units to represent the relation between inputs and targets."""

    title = "The network is too small."
    advice = "Use more units or layers."

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """Two layers of 256 units, where a hidden layer is narrow or there is none."""
        if case.value("model.name") == "linear":
            return [cls.proposal({"model.name": "mlp"}, "the model is linear")]
        hidden = case.value("model.hidden")
        if not hidden or min(hidden) >= 24:
            return []
        return [cls.proposal({"model.hidden": (256, 256)}, f"a hidden layer has {min(hidden)} units")]
