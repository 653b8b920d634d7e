"""What export reads of a trained network; :class:`descend.Run` provides it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from torch import nn

from descend.data.preprocessing import Preprocess
from descend.data.schema import Schema
from descend.recipe import Recipe
from descend.training.predictor import Predictor

__all__ = ["TrainedNetwork"]


class TrainedNetwork(Protocol):
    """A trained network with its preprocessing, its output activation and the recipe it was made by.

    Attributes:
        path: the folder that exported files go to by default, or None.
        recipe: the resolved recipe.
        schema: the columns and classes of the data.
        model: the network, with raw outputs.
        preprocess: raw numbers to the network's inputs.
        predictor: raw rows to predictions.
    """

    path: Path | None
    recipe: Recipe
    schema: Schema
    model: nn.Module
    preprocess: Preprocess
    predictor: Predictor
