"""Search for the best recipe over a space of configurations.

===================  ======================================================================================
:mod:`.dimension`    one key of the recipe and the values it may take
:mod:`.space`        dimensions with conditions; the space file
:mod:`.sampling`     points: random, quasi-random, on a grid
:mod:`.default`      the space when none is given
:mod:`.check`        whether a space can be searched, before any training
:mod:`.strategies`   what is tried next: random, quasi-random, grid, TPE
:mod:`.halving`      who goes on at a rung
:mod:`.trial`        the record of a configuration
:mod:`.journal`      records on disk
:mod:`.searching`    :func:`search`
:mod:`.result`       what a search leaves
:mod:`.importance`   which keys mattered
:mod:`.figures`      what the report draws
:mod:`.page`         the report
===================  ======================================================================================

The samplers serve alone:

>>> from descend.experiments.search import Space, quasi_random_points
>>> space = Space.of({"optimizer.lr": {"log_uniform": [1e-4, 1e-1]}, "optimizer.name": ["sgd", "adamw"]})
>>> len(quasi_random_points(space, 8, seed=0))
8
"""

from __future__ import annotations

from descend.experiments.search.result import SearchResult
from descend.experiments.search.sampling import grid_points, quasi_random_points, random_points
from descend.experiments.search.searching import search
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
