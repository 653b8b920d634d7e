"""Hyperparameter search over a space of recipes.

===================  ==========================================================================
:mod:`._search`      the function :func:`search`
:mod:`.dimension`    one key of the recipe and its range of values
:mod:`.space`        the search space: dimensions, conditions between them, the space file
:mod:`.sampling`     random, quasi-random (Sobol) and grid points of a space
:mod:`.defaults`     the default space
:mod:`.validation`   checks of a space against recipe and data, before any training
:mod:`.strategies`   strategies that propose points: random, quasi-random, grid, TPE
:mod:`.halving`      successive halving and its brackets
:mod:`.trial`        the record of one configuration
:mod:`.journal`      the search folder: settings and one line per completed trial
:mod:`.result`       the result of a search
:mod:`.importance`   permutation importance of the keys
:mod:`.figures`      figures of the report
:mod:`.page`         the HTML report
:mod:`.progress`     progress bar of the command line
===================  ==========================================================================

The samplers can be used on their own:

>>> from descend.experiments.search import Space, quasi_random_points
>>> space = Space.of({"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}, "optimizer.name": ["sgd", "adamw"]})
>>> len(quasi_random_points(space, 8, seed=0))
8
"""

from __future__ import annotations

from descend.experiments.search._search import search
from descend.experiments.search.result import SearchResult
from descend.experiments.search.sampling import grid_points, quasi_random_points, random_points
from descend.experiments.search.space import Point, Space
from descend.experiments.search.trial import Trial

__all__ = [
    "Point",
    "SearchResult",
    "Space",
    "Trial",
    "grid_points",
    "quasi_random_points",
    "random_points",
    "search",
]
