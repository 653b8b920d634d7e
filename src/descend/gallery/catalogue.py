"""The figures by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from descend.errors import UserError, did_you_mean
from descend.gallery.figures import (
    activations,
    adaptive,
    augmentation,
    batch_norm,
    depth,
    dropout,
    early_stopping,
    gd_vs_sgd,
    initialization,
    learning_rate,
    momentum,
    normalization_zoo,
    polynomial,
    race,
    random_vs_grid,
    restarts,
    scaling,
    schedules,
    second_order,
    whitening,
)
from descend.gallery.picture import Picture
from descend.training.threads import using_threads

__all__ = ["FIGURES", "Entry", "entry", "measure"]


@dataclass(frozen=True)
class Entry:
    """A figure: a description in one line, how it is measured, and how the result becomes a picture."""

    about: str
    measure: Callable[..., Any]
    picture: Callable[[Any], Picture]


FIGURES: dict[str, Entry] = {
    "polynomial": Entry(
        "a cubic fitted to the sine in five implementations", polynomial.measure, polynomial.picture
    ),
    "activations": Entry(
        "vanishing derivatives and cost of activation functions", activations.measure, activations.picture
    ),
    "gd_vs_sgd": Entry(
        "gradient descent against SGD by step and by epoch", gd_vs_sgd.measure, gd_vs_sgd.picture
    ),
    "schedules": Entry(
        "learning rate schedules against a constant learning rate", schedules.measure, schedules.picture
    ),
    "momentum": Entry("momentum against the zig-zag of gradient descent", momentum.measure, momentum.picture),
    "adaptive": Entry("adaptive learning rates on elongated functions", adaptive.measure, adaptive.picture),
    "race": Entry("optimizers on a saddle and in valleys, animated", race.measure, race.picture),
    "learning_rate": Entry(
        "loss curves with very high, high, good and low learning rates",
        learning_rate.measure,
        learning_rate.picture,
    ),
    "depth": Entry("gradient norms by layer", depth.measure, depth.picture),
    "initialization": Entry(
        "the signal through thirty layers by initialization scheme",
        initialization.measure,
        initialization.picture,
    ),
    "restarts": Entry("random restarts on nonconvex functions", restarts.measure, restarts.picture),
    "early_stopping": Entry(
        "training and validation loss, and the kept epoch",
        early_stopping.measure,
        early_stopping.picture,
    ),
    "scaling": Entry("contours of least squares, normalized and whitened", scaling.measure, scaling.picture),
    "whitening": Entry("a point cloud, decorrelated and whitened", whitening.measure, whitening.picture),
    "batch_norm": Entry(
        "training with and without batch norm, and the smoothness of the loss",
        batch_norm.measure,
        batch_norm.picture,
    ),
    "normalization_zoo": Entry(
        "which entries share a mean and a variance", normalization_zoo.measure, normalization_zoo.picture
    ),
    "dropout": Entry(
        "training and evaluation mode, and the ensemble of sub-networks", dropout.measure, dropout.picture
    ),
    "random_vs_grid": Entry(
        "search when one hyperparameter matters", random_vs_grid.measure, random_vs_grid.picture
    ),
    "augmentation": Entry(
        "augmented pictures, and errors on shifted scans", augmentation.measure, augmentation.picture
    ),
    "second_order": Entry(
        "gradient evaluations and time to a target", second_order.measure, second_order.picture
    ),
}
"""All figures, in the order of the index page."""


def entry(name: str) -> Entry:
    """Return the entry of a figure.

    Raises:
        UserError: no figure has that name.
    """
    if name not in FIGURES:
        raise UserError(f"unknown figure '{name}'; {did_you_mean(name, FIGURES)}")
    return FIGURES[name]


def measure(name: str, seed: int = 0) -> Picture:
    """Measure a figure.

    The arithmetic runs on one thread: the networks are small, and with several threads the times that some figures
    report would depend on the load of the machine.

    Args:
        name: one of :data:`FIGURES`.
        seed: seed of all random numbers. Default 0.

    Raises:
        UserError: no figure has that name.
    """
    figure = entry(name)
    with using_threads(1):
        start = perf_counter()
        result = figure.measure(seed)
        seconds = perf_counter() - start
    return replace(figure.picture(result), seconds=seconds)
