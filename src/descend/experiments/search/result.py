"""The result of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.experiments.search.dimension import to_plain
from descend.experiments.search.space import Space
from descend.experiments.search.trial import Trial, best_trial
from descend.report.formatting import NO_BREAK, metric, score
from descend.runs.description import described_scores
from descend.runs.run import Run

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SearchResult", "trials_table"]


@dataclass(frozen=True, eq=False, repr=False)
class SearchResult:
    """The result of :func:`descend.search`: the refitted winner and the records of all trials.

    Args:
        best: the run of the winner, retrained with the same split and seed to its own end, and the only one measured
            on the test rows.
        trials: the records of all trials, by number.
        space: the space that was searched.
        metric: the metric that trials were compared by, on the validation rows.
        method: the search method.
        budget: the number of epochs that the trials took, and the maximum had none stopped early.
        path: the search folder; None if the search was not saved.
        why: the reason for another metric than the main one of the task, if none was specified.
    """

    best: Run
    trials: tuple[Trial, ...]
    space: Space
    metric: str
    method: str
    budget: tuple[int, int]
    path: Path | None = None
    why: str = ""

    def __repr__(self) -> str:
        """Return the number of trials, the winner's values and scores, and the folder."""
        winner = self.winner
        values = ", ".join(f"{key} = {to_plain(value)!r}" for key, value in winner.values.items())
        test = self.best.metrics.get("test")
        lines = [
            f"Search of {len(self.trials)} trials ({self.method}) by the validation {metric(self.metric)}",
            f"  winner: trial {winner.number}, {metric(self.metric)} {score(self.metric, winner.score)}",
            f"  values: {values}",
            *([f"  test: {described_scores(test)}"] if test else []),
            *([] if self.path is None else [f"  folder: {self.path}"]),
        ]
        return "\n".join(lines).replace(NO_BREAK, " ")

    @property
    def winner(self) -> Trial:
        """The record of the best trial."""
        trial = best_trial(self.trials, self.metric)
        assert trial is not None
        return trial

    def table(self) -> pl.DataFrame:
        """Return all trials as a data frame.

        The columns are number, status, score, loss, epochs, seconds, and one for each key of the space.
        """
        return trials_table(self.trials, self.space)


def trials_table(trials: Sequence[Trial], space: Space) -> pl.DataFrame:
    """Return trials as a data frame. Missing values are null, and lists are converted to strings."""
    import polars as pl

    columns: dict[str, list[Any]] = {
        name: [getattr(trial, name) for trial in trials]
        for name in ("number", "status", "score", "loss", "epochs", "seconds")
    }
    for dimension in space:
        values = [to_plain(trial.values.get(dimension.key)) for trial in trials]
        types = {type(value) for value in values if value is not None}
        if len(types) > 1 or types & {list, dict}:
            values = [None if value is None else str(value) for value in values]
        columns[dimension.key] = values
    return pl.DataFrame(columns, strict=False)
