"""The result of :func:`descend.compare`."""

from __future__ import annotations

from pathlib import Path

from descend.experiments.comparison import page
from descend.experiments.comparison.results import ComparisonResults

__all__ = ["Comparison"]


class Comparison(ComparisonResults):
    """The result of :func:`descend.compare`: the outcome of each variant, and a test of each pair.

    ``comparison["name"]`` is the outcome of a variant. The attributes are those of
    :class:`~descend.experiments.comparison.results.ComparisonResults`.
    """

    def report(self) -> Path:
        """Write ``report.html`` into the comparison folder, replacing an earlier one.

        Raises:
            UserError: the comparison was not saved.
        """
        return page.write(self)
