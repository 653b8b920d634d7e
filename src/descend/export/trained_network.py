"""The interface of a trained network that export reads; :class:`descend.Run` implements it."""

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
    """A trained network with its preprocessing, its output activation and its recipe.

    Attributes:
        path: default folder of exported files, or None.
        recipe: the resolved recipe.
        schema: columns and classes of the data.
        model: the network, with raw outputs.
        preprocess: maps raw numbers to the inputs of the network.
        predictor: maps raw rows to predictions.
        kept: the numbers of the networks of an ensemble (:mod:`descend.recipe.members`), else empty.
    """

    path: Path | None
    recipe: Recipe
    schema: Schema
    model: nn.Module
    preprocess: Preprocess
    predictor: Predictor

    @property
    def kept(self) -> list[int]:
        """The numbers of the networks of an ensemble, else empty."""
