"""Contenders of ``packs.py``, which train many networks. Importing this imports none of their libraries."""

from __future__ import annotations

from contenders.many.descend_train_many import ONE_RUN, TRAIN_MANY, one_run, train_many
from contenders.many.interface import Many, ManyContender, Outcome, Variant
from contenders.many.optuna_study import OPTUNA
from contenders.many.plain_loops import DATALOADER, PROCESSES, plain_loop
from contenders.many.randomized_search import RANDOMIZED_SEARCH

__all__ = [
    "CONFIGURATIONS",
    "ONE_RUN",
    "TRAIN_MANY",
    "Many",
    "ManyContender",
    "Outcome",
    "Variant",
    "one_run",
    "plain_loop",
    "train_many",
]

CONFIGURATIONS = {
    contender.name: contender for contender in [TRAIN_MANY, DATALOADER, OPTUNA, RANDOMIZED_SEARCH, PROCESSES]
}
"""Contenders that train the random configurations, in the order in which they run."""
