"""A figure before rendering: panels of marks, as plain numbers and text.

The module of a figure measures and fills a :class:`Picture`. Two renderers read it, :mod:`descend.gallery.png` and
:mod:`descend.gallery.page`, so that both show the same numbers.

A color is a name: ``s1`` to ``s8`` for the series, ``ink``, ``muted`` or ``axis``; :mod:`descend.gallery.palette`
defines their values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, SupportsFloat

from descend.gallery.intervals import Estimate

__all__ = [
    "Axis",
    "Bars",
    "Cells",
    "Contours",
    "Dash",
    "Line",
    "Mark",
    "Numbers",
    "Panel",
    "Picture",
    "Points",
    "numbers",
]

Numbers = tuple[float | None, ...]
Dash = Literal["solid", "dash", "dot"]
Shape = Literal["half", "third", "square", "tile", "wide", "strip"]


def numbers(values: Iterable[SupportsFloat], *, above: float | None = None) -> Numbers:
    """Return the numbers of an array, a tensor or a list with six digits; None where one is not finite.

    Args:
        values: the numbers.
        above: also None where a number is not above this; 0 for a logarithmic axis. Default: no bound.

    >>> numbers([1 / 3, float("inf"), 0], above=0.0)
    (0.333333, None, None)
    """
    plain = [float(value) for value in values]
    return tuple(
        float(f"{value:.6g}") if math.isfinite(value) and (above is None or value > above) else None
        for value in plain
    )


@dataclass(frozen=True)
class Line:
    """A line through points, with a band if ``low`` and ``high`` are given."""

    x: Numbers
    y: Numbers
    name: str = ""
    color: str = "s1"
    dash: Dash = "solid"
    dots: bool = False
    low: Numbers = ()
    high: Numbers = ()
    width: float = 2.0


@dataclass(frozen=True)
class Points:
    """Unconnected points."""

    x: Numbers
    y: Numbers
    name: str = ""
    color: str = "s1"
    size: float = 6.0
    opacity: float = 1.0


@dataclass(frozen=True)
class Bars:
    """Bars from zero, one per label, with the ends of an interval if ``low`` and ``high`` are given."""

    labels: tuple[str, ...]
    values: Numbers
    name: str = ""
    color: str = "s1"
    low: Numbers = ()
    high: Numbers = ()


@dataclass(frozen=True)
class Contours:
    """A function of two variables: ``z[j][i]`` at (x[i], y[j]), with ``levels`` contour lines."""

    x: Numbers
    y: Numbers
    z: tuple[Numbers, ...]
    levels: int = 14


@dataclass(frozen=True)
class Cells:
    """A table of cells, the first row on top: a strong color for ``high``, a faint one for ``low``.

    ``gray`` shows a grayscale picture.
    """

    z: tuple[Numbers, ...]
    low: float = 0.0
    high: float = 1.0
    text: tuple[tuple[str, ...], ...] = ()
    gray: bool = False


Mark = Line | Points | Bars | Contours | Cells


@dataclass(frozen=True)
class Axis:
    """An axis: its title, whether it is logarithmic, its fixed ends if any, and whether it has ticks."""

    title: str = ""
    log: bool = False
    ends: tuple[float, float] | None = None
    ticks: bool = True


@dataclass(frozen=True)
class Panel:
    """A coordinate system and its marks.

    Args:
        title: title of the panel.
        marks: the marks, from back to front.
        x: the horizontal axis.
        y: the vertical axis.
        shape: size on the page: ``half`` or ``third`` of its width, or all of it (``wide``); ``square`` and ``tile``
            are a half and a third with equal height, ``strip`` a half with a small height.
        equal: whether a unit has the same length on both axes.
        moving: whether the page animates the lines from their first point.
        note: a line of text below the panel.
    """

    title: str
    marks: tuple[Mark, ...]
    x: Axis = Axis()
    y: Axis = Axis()
    shape: Shape = "half"
    equal: bool = False
    moving: bool = False
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A measured figure of the gallery.

    Args:
        name: name on the command line.
        title: title of the figure.
        claim: the claim that is tested.
        see: what to look at.
        number: description of ``value``.
        value: the measured number, with its interval if there are several seeds.
        finding: the result of the measurement in one or more sentences.
        supported: whether the measurement supports the claim.
        panels: the panels.
        seconds: duration of the measurement. Default 0.
    """

    name: str
    title: str
    claim: str
    see: str
    number: str
    value: Estimate
    finding: str
    supported: bool
    panels: tuple[Panel, ...]
    seconds: float = 0.0

    @property
    def verdict(self) -> str:
        """Whether the measurement supports the claim, as a sentence."""
        return f"Supports the claim: {'yes' if self.supported else 'no'}."
