"""Initial weights that depend on the training rows."""

from __future__ import annotations

import math
from typing import Any

from torch import Generator, nn

from descend.data.preparation import Part
from descend.errors import Problem, RecipeError, message_of

__all__ = ["MOST_ROWS", "fit_initial_weights"]

MOST_ROWS = 1024
"""Weights are adapted to at most this many training rows, which are evenly spaced."""


def fit_initial_weights(scheme: Any, network: nn.Module, train: Part | None, generator: Generator) -> None:
    """Adapt the initial weights of a network to training rows, where its scheme has a method ``fit``.

    Args:
        scheme: of the initial weights, such as :func:`descend.nn.init.data_driven`.
        network: with weights of the scheme; changed in place.
        train: the training rows; None for a network whose state is replaced by a saved one.
        generator: the random generator.

    Raises:
        RecipeError: the rows are loaded one by one, or the scheme refuses the network.
    """
    fit = getattr(scheme, "fit", None)
    if train is None or not callable(fit):
        return
    if train.inputs is None:
        message = "it is fitted on the training rows, and these are loaded one by one"
        raise RecipeError([Problem("init", "name", message, "use 'kaiming_normal', or data in memory")])
    try:
        fit(network, train.inputs[:: math.ceil(len(train) / MOST_ROWS)], generator)
    except Exception as cause:  # anyone's scheme may raise anything
        raise RecipeError([Problem("init", "name", message_of(cause))]) from cause
