"""The result of :func:`descend.compare`."""

from __future__ import annotations

from pathlib import Path

from descend.experiments.comparison import page
from descend.experiments.comparison.results import ComparisonResults
from descend.report.formatting import NO_BREAK, metric, score

__all__ = ["Comparison"]

MOST = 8
"""The number of variants that the ``repr`` lists."""


class Comparison(ComparisonResults):
    """The result of :func:`descend.compare`: the outcome of each variant, and a test of each pair.

    ``comparison["name"]`` is the outcome of a variant. The attributes are those of
    :class:`~descend.experiments.comparison.results.ComparisonResults`.
    """

    def __repr__(self) -> str:
        """Return a line for each of the first variants, with its mean score."""
        conditions = self.conditions
        lines = [
            f"  {outcome.name}: {metric(conditions.metric)} "
            f"{score(conditions.metric, outcome.mean).replace(NO_BREAK, ' ')} (mean of {len(outcome.valid_scores)} runs)"
            for outcome in self.outcomes[:MOST]
        ]
        more = [f"  and {len(self.outcomes) - MOST} more"] if len(self.outcomes) > MOST else []
        folder = [] if self.path is None else [f"  folder: {self.path}"]
        head = (
            f"Comparison of {len(self.outcomes)} variants on {conditions.data}, by the {conditions.part} part"
        )
        return "\n".join([head, *lines, *more, *folder])

    def report(self) -> Path:
        """Write ``report.html`` into the comparison folder, replacing an earlier one.

        Raises:
            UserError: the comparison was not saved.
        """
        return page.write(self)
