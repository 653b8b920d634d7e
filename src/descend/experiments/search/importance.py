"""Permutation importance of the keys of a search space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from descend.experiments.search.space import Space
from descend.experiments.search.trial import Trial

__all__ = ["MIN_FIT", "MIN_TRIALS", "Importance", "permutation_importance"]

MIN_TRIALS = 12
"""Fewer trials are not enough to estimate the importance of several keys."""

MIN_FIT = 0.1
"""Below this R² the values do not predict the rank, and importances are meaningless."""

_FOLDS, _TREES, _PERMUTATIONS = 4, 60, 8


@dataclass(frozen=True)
class Importance:
    """The influence of each key on the rank of a trial.

    Args:
        shares: importance by key, non-negative, with sum 1; all 0 if no key has any influence.
        fit: R² of the prediction for held-out trials, at most 1. Below :data:`MIN_FIT` the shares are meaningless.
    """

    shares: dict[str, float]
    fit: float


def permutation_importance(trials: Sequence[Trial], space: Space, metric: str) -> Importance | None:
    """Estimate permutation importance: the loss of predictive accuracy when one key is shuffled.

    A random forest predicts the rank of a trial from its values, in cross-validation; then the values of one key are
    permuted among the held-out trials. The resulting decrease of R² is the importance of the key. Trials that diverged
    rank last.

    Args:
        trials: the records of a search.
        space: the space that was searched.
        metric: the metric to rank by.

    Returns:
        The importance of each key; None for fewer than :data:`MIN_TRIALS` trials.

    >>> space = Space.of({"optimizer.lr": {"uniform": [0.1, 1.0]}, "model.dropout": {"uniform": [0.0, 0.5]}})
    >>> from descend.experiments.search.sampling import random_points
    >>> tried = [Trial(n, p, "finished", p["optimizer.lr"]) for n, p in enumerate(random_points(space, 40))]
    >>> permutation_importance(tried, space, "accuracy").shares["optimizer.lr"] > 0.9
    True

    Source: Breiman, "Random forests", 2001, section 10.
    """
    if len(trials) < MIN_TRIALS:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.metrics import r2_score
    from sklearn.model_selection import KFold

    features = np.array(
        [
            [each.to_unit(trial.values[each.key]) if each.key in trial.values else -1.0 for each in space]
            for trial in trials
        ]
    )
    order = sorted(range(len(trials)), key=lambda row: trials[row].rank_key(metric))
    ranks = np.empty(len(trials))
    ranks[order] = np.linspace(0.0, 1.0, len(trials))
    random = np.random.default_rng(0)
    predicted = np.empty(len(trials))
    permuted = np.empty((len(space), _PERMUTATIONS, len(trials)))
    for train, held_out in KFold(_FOLDS, shuffle=True, random_state=0).split(features):
        forest = RandomForestRegressor(_TREES, random_state=0).fit(features[train], ranks[train])
        predicted[held_out] = forest.predict(features[held_out])
        for column in range(len(space)):
            shuffled = np.concatenate([features[held_out]] * _PERMUTATIONS)
            shuffled[:, column] = np.concatenate(
                [random.permutation(features[held_out, column]) for _ in range(_PERMUTATIONS)]
            )
            permuted[column, :, held_out] = forest.predict(shuffled).reshape(_PERMUTATIONS, -1).T
    fit = float(r2_score(ranks, predicted))
    decreases = np.array([fit - np.mean([r2_score(ranks, one) for one in each]) for each in permuted])
    positive = np.maximum(decreases, 0.0)
    total = float(positive.sum())
    shares = positive / total if total > 0 else positive
    return Importance(dict(zip(space.keys, shares.tolist(), strict=True)), fit)
