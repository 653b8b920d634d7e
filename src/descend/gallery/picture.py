"""What a figure is before anyone draws it: panels of marks, as plain numbers and words.

A figure's file measures and fills a :class:`Picture`. Two renderers read it: :mod:`descend.gallery.png` and
:mod:`descend.gallery.page`. So a figure is written once, and both show the same numbers.

A colour is a name: ``s1`` to ``s8`` for the series, ``ink``, ``muted`` or ``axis``;
:mod:`descend.gallery.palette` says what each looks like.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, SupportsFloat

from descend.gallery.spread import Estimate

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
    """Numbers of an array, a tensor or a list to six digits; None where one is not finite.

    Args:
        values: the numbers.
        above: None too where one is not above this; 0 for a logarithmic axis.

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
    """A line through points, with a band around it if ``low`` and ``high`` are given."""

    x: Numbers
    y: Numbers
    name: str = ""
    colour: str = "s1"
    dash: Dash = "solid"
    dots: bool = False
    low: Numbers = ()
    high: Numbers = ()
    width: float = 2.0


@dataclass(frozen=True)
class Points:
    """Points that nothing joins."""

    x: Numbers
    y: Numbers
    name: str = ""
    colour: str = "s1"
    size: float = 6.0
    opacity: float = 1.0


@dataclass(frozen=True)
class Bars:
    """Bars from zero, one for each label, with the ends of an interval where there is one."""

    labels: tuple[str, ...]
    values: Numbers
    name: str = ""
    colour: str = "s1"
    low: Numbers = ()
    high: Numbers = ()


@dataclass(frozen=True)
class Contours:
    """A function of the plane: ``z[j][i]`` at (x[i], y[j]), with lines at ``levels``."""

    x: Numbers
    y: Numbers
    z: tuple[Numbers, ...]
    levels: int = 14


@dataclass(frozen=True)
class Cells:
    """A table of cells, the first row on top: strong for ``high``, faint for ``low``.

    ``grey`` shows a picture, as light on dark.
    """

    z: tuple[Numbers, ...]
    low: float = 0.0
    high: float = 1.0
    text: tuple[tuple[str, ...], ...] = ()
    grey: bool = False


Mark = Line | Points | Bars | Contours | Cells


@dataclass(frozen=True)
class Axis:
    """An axis: its title, whether it is logarithmic, and its ends where they are fixed."""

    title: str = ""
    log: bool = False
    ends: tuple[float, float] | None = None
    ticks: bool = True


@dataclass(frozen=True)
class Panel:
    """One coordinate system and what is drawn in it.

    Args:
        title: its heading.
        x: the horizontal axis.
        y: the vertical axis.
        marks: what is drawn, from the back to the front.
        shape: its size on the page: ``half``, ``third`` or the whole width (``wide``) of it; ``square`` and
            ``tile`` are a half and a third as high as wide, ``strip`` a half that is low.
        equal: one unit is as long on both axes.
        moving: the page lets its lines grow from their first point; on paper they are complete.
        note: a line below it.
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
    """A figure of the gallery, measured.

    Args:
        name: its name on the command line.
        title: its heading.
        claim: what the lecture says.
        see: what to look at.
        number: what the number below is, in words.
        value: the number that shows it, with its interval where there are several seeds.
        finding: what was measured, in a sentence with the number.
        supported: whether the measurement supports the claim.
        panels: what is drawn.
        seconds: how long it took to measure.
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
        """In words, whether the measurement supports the claim."""
        return (
            "The measurement supports this."
            if self.supported
            else "The measurement does NOT support this as stated."
        )
