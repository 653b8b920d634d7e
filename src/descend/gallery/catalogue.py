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

__all__ = ["FIGURES", "Entry", "draw", "entry"]


@dataclass(frozen=True)
class Entry:
    """A figure: what it shows in a line, how it is measured, and how the numbers become a picture."""

    about: str
    measure: Callable[..., Any]
    picture: Callable[[Any], Picture]


FIGURES: dict[str, Entry] = {
    "polynomial": Entry("one cubic, five notations", polynomial.measure, polynomial.picture),
    "activations": Entry(
        "where gradients die, and what a function costs", activations.measure, activations.picture
    ),
    "gd_vs_sgd": Entry("gradient descent and SGD by step and by epoch", gd_vs_sgd.measure, gd_vs_sgd.picture),
    "schedules": Entry("a rate that falls beats one that does not", schedules.measure, schedules.picture),
    "momentum": Entry("history smooths the zig-zag", momentum.measure, momentum.picture),
    "adaptive": Entry("rates of their own balance the coordinates", adaptive.measure, adaptive.picture),
    "race": Entry("optimizers on a saddle and in valleys, animated", race.measure, race.picture),
    "learning_rate": Entry("very high, high, good and low", learning_rate.measure, learning_rate.picture),
    "depth": Entry("the gradient's size layer by layer", depth.measure, depth.picture),
    "initialization": Entry(
        "the signal through thirty layers", initialization.measure, initialization.picture
    ),
    "restarts": Entry("many starts find the global minimum", restarts.measure, restarts.picture),
    "early_stopping": Entry(
        "the validation loss turns before the training loss ends",
        early_stopping.measure,
        early_stopping.picture,
    ),
    "scaling": Entry("contours of least squares, normalised and whitened", scaling.measure, scaling.picture),
    "whitening": Entry("one cloud as it is, turned and white", whitening.measure, whitening.picture),
    "batch_norm": Entry(
        "training with and without, and how smooth the loss is", batch_norm.measure, batch_norm.picture
    ),
    "normalization_zoo": Entry(
        "which numbers share a mean and a variance", normalization_zoo.measure, normalization_zoo.picture
    ),
    "dropout": Entry("two modes, and the ensemble of sub-networks", dropout.measure, dropout.picture),
    "random_vs_grid": Entry(
        "searching when one hyperparameter matters", random_vs_grid.measure, random_vs_grid.picture
    ),
    "augmentation": Entry(
        "the sheet of pictures, and errors on scans that moved", augmentation.measure, augmentation.picture
    ),
    "second_order": Entry("gradients and time to a target", second_order.measure, second_order.picture),
}
"""In the lecture's order."""


def entry(name: str) -> Entry:
    """A figure by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in FIGURES:
        raise UserError(f"no figure of the gallery is called '{name}'; {did_you_mean(name, FIGURES)}")
    return FIGURES[name]


def draw(name: str, seed: int = 0) -> Picture:
    """Measure a figure anew.

    The arithmetic runs on one thread: the networks are small, and on several the seconds that some figures
    show would depend on who else uses the machine.

    Args:
        name: one of :data:`FIGURES`.
        seed: every random number follows from it.

    Raises:
        UserError: there is no figure of that name.
    """
    figure = entry(name)
    with using_threads(1):
        start = perf_counter()
        found = figure.measure(seed)
        seconds = perf_counter() - start
    return replace(figure.picture(found), seconds=seconds)
