"""The figures by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any

from descend.errors import UserError, did_you_mean
from descend.gallery.figures import (
    activations,
    gd_vs_sgd,
    momentum,
    polynomial,
    schedules,
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
    "activations": Entry("where gradients die", activations.measure, activations.picture),
    "gd_vs_sgd": Entry("by step and by epoch", gd_vs_sgd.measure, gd_vs_sgd.picture),
    "schedules": Entry("a rate that falls", schedules.measure, schedules.picture),
    "momentum": Entry("momentum smooths the zig-zag", momentum.measure, momentum.picture),
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
