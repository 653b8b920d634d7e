"""Recipes: one frozen, validated object with a section per design choice of training.

Each section, and each method that a section can choose, has a class here, so that a recipe completes in an editor and
is checked by type checkers:

>>> from descend.recipe import MLP, Adam, Cosine, Recipe, Stop
>>> recipe = Recipe(
...     optimizer=Adam(lr=1e-3), stop=Stop(patience=5), model=MLP(hidden=[64, 64]), schedule=Cosine(warmup=2)
... )
>>> recipe == Recipe(
...     optimizer={"name": "adam", "lr": 1e-3},
...     stop={"patience": 5},
...     model={"name": "mlp", "hidden": [64, 64]},
...     schedule={"name": "cosine", "warmup": 2},
... )
True
"""

from typing import TYPE_CHECKING

from descend.recipe import typed
from descend.recipe.recipe import Recipe

if TYPE_CHECKING:
    from descend.recipe.typed import *  # noqa: F403  # what typed.__all__ lists

__all__ = ["Recipe"]
__all__ += typed.__all__

if not TYPE_CHECKING:  # a type checker would take every name to exist

    def __getattr__(name: str) -> type:
        try:
            return getattr(typed, name)
        except AttributeError:
            raise AttributeError(f"module '{__name__}' has no attribute '{name}'") from None
