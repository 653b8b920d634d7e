"""How data are prepared for a recipe: the settings of the data, as far as the loss leaves them open."""

from __future__ import annotations

import dataclasses

from descend.data.settings import DataSettings
from descend.recipe import Recipe
from descend.recipe.loss_requirements import loss_requirements

__all__ = ["data_settings"]

BATCH_KEYS = ("batch_size", "sampling", "shuffle", "augment")
"""Keys of ``[data]`` that determine batches; preparing the rows does not depend on them."""


def data_settings(recipe: Recipe) -> tuple[DataSettings, str]:
    """Return how data are prepared for a recipe, and the reason if the loss decides the task; else an empty string."""
    settings = DataSettings(**{k: v for k, v in recipe.data.items() if v is not None and k not in BATCH_KEYS})
    needs = loss_requirements(recipe.loss)
    raw = needs.target_space == "raw"
    if settings.target_scale == "auto":
        settings = dataclasses.replace(settings, target_scale="none" if raw else "standard")
    if raw and settings.task == "auto":  # counts are numbers, however few different ones there are
        return dataclasses.replace(settings, task="regression"), f"the loss {needs.name} is for numbers"
    return settings, ""
