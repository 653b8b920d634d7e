"""A batch that is too large, or of one row."""

from __future__ import annotations

import math

from descend.cards import method
from descend.doctor.causes.base import Cause
from descend.doctor.run_case import Proposal, RunCase

__all__ = ["BatchTooLarge"]


@method(row="I3", reference="Keskar et al. 2017", formula="steps per epoch = n / b, near 1 or near n")
class BatchTooLarge(Cause):
    """An epoch has only a few steps because a batch is large, or norms and gradients are noise because it is tiny."""

    title = "The batch size does not fit the number of rows."
    advice = "Use 32 to 256 rows per batch."
    explains = ("learning_rate_too_low",)

    @classmethod
    def proposals(cls, case: RunCase) -> list[Proposal]:
        """A usual batch size, where an epoch has fewer than five steps or a batch fewer than four rows."""
        size, rows = case.value("data.batch_size"), len(case.planned.prepared.train)
        if case.value("data.sampling") == "full" or not isinstance(size, int):
            return []
        usual = min(256, max(16, 2 ** round(math.log2(max(rows, 16) / 20))))
        if size >= 4 and (rows / size >= 5 or size <= usual):
            return []
        evidence = f"{size} of {rows} rows per batch: {math.ceil(rows / size)} steps per epoch"
        return [cls.proposal({"data.batch_size": usual}, evidence)]
