"""What a search leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from descend.experiments.search.dimension import plain
from descend.experiments.search.space import Space
from descend.experiments.search.trial import Trial, best_of
from descend.runs.run import Run

if TYPE_CHECKING:
    import polars as pl

__all__ = ["SearchResult", "table_of"]


@dataclass(frozen=True, eq=False)
class SearchResult:
    """The winner as a run, and every trial.

    Args:
        best: the winner, trained anew: the same split, the same seed, to its own end, and measured on the test
            part, which nothing else has touched.
        trials: all records, by number.
        space: what was searched.
        metric: by which trials were compared, on the validation rows.
        method: how points were chosen.
        budget: epochs that the trials took, and what they could have taken had none been stopped.
        path: the folder of the search; None if it was not saved.
    """

    best: Run
    trials: tuple[Trial, ...]
    space: Space
    metric: str
    method: str
    budget: tuple[int, int]
    path: Path | None = None

    @property
    def winner(self) -> Trial:
        """The trial that won."""
        found = best_of(self.trials, self.metric)
        assert found is not None
        return found

    def table(self) -> pl.DataFrame:
        """All trials, a row each: number, status, score, loss, epochs, seconds, and a column for each key."""
        return table_of(self.trials, self.space)


def table_of(trials: Sequence[Trial], space: Space) -> pl.DataFrame:
    """Trials as a table. What a trial does not have is null; lists are shown as text."""
    import polars as pl

    columns: dict[str, list[Any]] = {
        name: [getattr(trial, name) for trial in trials]
        for name in ("number", "status", "score", "loss", "epochs", "seconds")
    }
    for dimension in space:
        values = [plain(trial.values.get(dimension.key)) for trial in trials]
        same = {type(value) for value in values if value is not None}
        if len(same) > 1 or same & {list, dict}:
            values = [None if value is None else str(value) for value in values]
        columns[dimension.key] = values
    return pl.DataFrame(columns, strict=False)
