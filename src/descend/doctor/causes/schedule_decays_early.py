"""A learning rate that decays too early."""

from __future__ import annotations

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["ScheduleDecaysEarly"]


@method(
    row="I1", reference="the lecture, diagnosis of the learning rate", formula="lr_t -> 0 while F still falls"
)
class ScheduleDecaysEarly(Cause):
    """The schedule lowers the learning rate to almost nothing while the loss still falls.

    The curve flattens as if training had converged; it has only stopped moving.
    """

    title = "The schedule lowers the learning rate too early."
    advice = "Use a constant learning rate, or a schedule that decays over the whole training."
    explains = ("learning_rate_too_low",)

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """A constant learning rate, where the recipe's falls below a tenth within the first half."""
        rates = [float(each["lr"]) for each in case.history if each.get("lr") is not None]
        if case.value("schedule.name") in (None, "constant") or len(rates) < 4:
            return []
        early = rates[len(rates) // 2]
        if early > 0.1 * max(rates):
            return []
        evidence = f"halfway through, the learning rate was {early:.2g}, its largest {max(rates):.2g}"
        return [cls.proposal({"schedule.name": "constant"}, evidence)]
