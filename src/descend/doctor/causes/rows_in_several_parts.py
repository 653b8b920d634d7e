"""Rows that are in more than one part of the data."""

from __future__ import annotations

from descend.cards import method
from descend.data.overlap import overlap_notes
from descend.doctor.causes.base import Cause
from descend.doctor.findings import Finding
from descend.runs.plan import Plan

__all__ = ["RowsInSeveralParts"]


@method(row="I3", reference="Kaufman, Rosset and Perlich 2012, Leakage in data mining")
class RowsInSeveralParts(Cause):
    """Rows of the training data are also validation or test rows, so that scores tell how well they were memorized."""

    title = "Rows of the training data are also in the validation or test data."
    advice = "Remove repeated rows before the data are split, or keep them together (data.group)."

    @classmethod
    def in_data(cls, planned: Plan) -> Finding | None:
        """Compare the rows of the parts."""
        notes = overlap_notes(planned.prepared, planned.source)
        return cls.found(0.85, *notes) if notes else None
