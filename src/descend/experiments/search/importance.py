"""Which keys of a space mattered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descend.experiments.search.space import Space
from descend.experiments.search.trial import Trial

__all__ = ["FEWEST", "TELLING", "Importance", "importance"]

FEWEST = 12
"""Fewer trials tell nothing about several keys."""

TELLING = 0.1
"""A fit below this says that the values do not tell the rank, and that shares of it mean nothing."""

_FOLDS, _TREES, _SHUFFLES = 4, 60, 8


@dataclass(frozen=True)
class Importance:
    """How much each key tells about the score.

    Args:
        shares: by key, 0 or more, with the sum 1; all 0 where nothing is told.
        fit: R² of the prediction of held-out trials, 1 at best. Below :data:`TELLING` the shares mean nothing.
    """

    shares: dict[str, float]
    fit: float


def importance(trials: Sequence[Trial], space: Space, metric: str) -> Importance | None:
    """Permutation importance: what a prediction of the trials' ranks loses when one key is shuffled.

    A random forest learns the rank of a trial from its values, with some trials held out in turn; then the values
    of one key are shuffled among the held-out ones. The loss of R² is the key's importance. Trials that diverged
    rank last. None with fewer than :data:`FEWEST` trials.

    >>> space = Space.of({"optimizer.lr": {"uniform": [0.1, 1.0]}, "model.dropout": {"uniform": [0.0, 0.5]}})
    >>> from descend.experiments.search.sampling import random_points
    >>> tried = [Trial(n, p, "finished", p["optimizer.lr"]) for n, p in enumerate(random_points(space, 40))]
    >>> importance(tried, space, "accuracy").shares["optimizer.lr"] > 0.9
    True

    Source: Breiman, "Random forests", 2001, section 10.
    """
    if len(trials) < FEWEST:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold

    places = np.array(
        [
            [each.share(trial.values[each.key]) if each.key in trial.values else -1.0 for each in space]
            for trial in trials
        ]
    )
    order = sorted(range(len(trials)), key=lambda row: trials[row].cost(metric))
    ranks = np.empty(len(trials))
    ranks[order] = np.linspace(0.0, 1.0, len(trials))
    drawn = np.random.default_rng(0)
    guessed = np.empty(len(trials))
    without = np.empty((len(space), _SHUFFLES, len(trials)))
    for learned, held in KFold(_FOLDS, shuffle=True, random_state=0).split(places):
        forest = RandomForestRegressor(_TREES, random_state=0).fit(places[learned], ranks[learned])
        guessed[held] = forest.predict(places[held])
        for column in range(len(space)):
            shuffled = np.concatenate([places[held]] * _SHUFFLES)
            shuffled[:, column] = np.concatenate(
                [drawn.permutation(places[held, column]) for _ in range(_SHUFFLES)]
            )
            without[column, :, held] = forest.predict(shuffled).reshape(_SHUFFLES, -1).T
    fit = float(r2_score(ranks, guessed))
    losses = np.array([fit - np.mean([r2_score(ranks, one) for one in each]) for each in without])
    kept = np.maximum(losses, 0.0)
    total = float(kept.sum())
    shares = kept / total if total > 0 else kept
    return Importance(dict(zip(space.keys, shares.tolist(), strict=True)), fit)
