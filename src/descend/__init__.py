"""Train neural networks with explicit, swappable design choices, fast and with bit-exact resume.

>>> import descend
>>> run = descend.train("iris", {"optimizer": {"name": "sgd", "lr": 0.1}, "stop": {"max_epochs": 2}}, seed=0)
>>> run.recipe.get("optimizer.name"), run.metrics["epochs"]
('sgd', 2)
>>> run.predict([[5.1, 3.5, 1.4, 0.2]]).shape
(1,)

Names are imported on first use, so that ``import descend`` is fast and does not import PyTorch.
"""

from __future__ import annotations

import os

from descend._version import __version__

TYPE_CHECKING = False  # typing is not imported, so that the program answers signals from its first moment
if TYPE_CHECKING:
    from typing import Any

    from descend.api import finish, train
    from descend.data.training_data import TrainingData
    from descend.estimators import Classifier, Regressor, Search
    from descend.experiments.comparison import Comparison, compare
    from descend.experiments.cross_validation import CrossValidation, cross_validate
    from descend.experiments.search import SearchResult, Space, search
    from descend.many import train_many
    from descend.recipe import Recipe
    from descend.runs.run import Run, load

__all__ = [
    "Classifier",
    "Comparison",
    "CrossValidation",
    "Recipe",
    "Regressor",
    "Run",
    "Search",
    "SearchResult",
    "Space",
    "TrainingData",
    "__version__",
    "compare",
    "cross_validate",
    "finish",
    "load",
    "search",
    "train",
    "train_many",
]

_forked = False
"""Whether this process is a fork of one that had imported descend; :mod:`descend.process.forks` is imported later."""


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)

_HOMES = {
    "Classifier": "descend.estimators",
    "Comparison": "descend.experiments.comparison",
    "CrossValidation": "descend.experiments.cross_validation",
    "Recipe": "descend.recipe",
    "Regressor": "descend.estimators",
    "Run": "descend.runs.run",
    "Search": "descend.estimators",
    "SearchResult": "descend.experiments.search",
    "Space": "descend.experiments.search",
    "TrainingData": "descend.data.training_data",
    "compare": "descend.experiments.comparison",
    "cross_validate": "descend.experiments.cross_validation",
    "finish": "descend.api",
    "load": "descend.runs.run",
    "search": "descend.experiments.search",
    "train": "descend.api",
    "train_many": "descend.many",
}
"""The module that each public name is imported from when it is first used."""
_PACKAGES = frozenset(
    {
        "augmentation",
        "constraints",
        "data",
        "doctor",
        "export",
        "losses",
        "metrics",
        "nn",
        "optim",
        "regularization",
        "schedules",
    }
)
"""Public packages, which are imported when they are first used."""


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from descend.process.surroundings import imported

        return getattr(imported(_HOMES[name]), name)
    if name in _PACKAGES:
        from descend.process.surroundings import imported

        return imported(f"descend.{name}")
    raise AttributeError(f"module 'descend' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*__all__, *globals()])
