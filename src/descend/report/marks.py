"""What a figure contains: axes, lines, points, bars and cells, as plain numbers and strings.

A figure is independent of how it is drawn; :mod:`.svg` draws it. A color is the name of a CSS variable of the page
without its hyphens, such as ``training``, so that figures follow light and dark mode. A value that is None or not finite
is a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from descend.report.ticks import Style, Tick

__all__ = ["Area", "Axis", "Bars", "Cell", "Cells", "Columns", "Dash", "Figure", "Interval", "Line", "Mark", "Points",
           "Rule", "Style", "Texts", "Values"]  # fmt: skip

Values = Sequence[float | None]
Dash = Literal["solid", "dash", "dot"]
Shape = Literal["half", "third", "square", "wide"]


@dataclass(frozen=True)
class Axis:
    """An axis of a figure.

    Args:
        title: its title.
        limits: its two ends; None for those of the marks with a margin.
        style: how numbers are written.
        log: whether it is logarithmic.
        zero: whether it begins at 0, if no value is negative.
        names: names of categories; then the values are their indices, and a vertical axis begins at the top.
        above: whether the names stand above their rows rather than to the left of them.
        ticks: ticks to use instead of computed ones.
        grid: whether there are lines at the ticks.
    """

    title: str = ""
    limits: tuple[float, float] | None = None
    style: Style = "number"
    log: bool = False
    zero: bool = False
    names: Sequence[str] = ()
    above: bool = False
    ticks: Sequence[Tick] | None = None
    grid: bool = True


@dataclass(frozen=True)
class Line:
    """A line through points.

    Args:
        x: abscissas.
        y: ordinates.
        color: its color.
        width: its width in pixels.
        dash: its pattern.
        opacity: its opacity.
        steps: whether a value lasts until the next point instead of changing linearly.
        dots: whether the points are marked.
        bridges: whether the line continues over gaps.
        text: a description, shown when the reader points at the line.
    """

    x: Sequence[float]
    y: Values
    color: str
    width: float = 2
    dash: Dash = "solid"
    opacity: float = 1
    steps: bool = False
    dots: bool = False
    bridges: bool = False
    text: str = ""


@dataclass(frozen=True)
class Area:
    """A polygon, such as the band between two curves."""

    x: Sequence[float]
    y: Values
    color: str
    opacity: float = 0.14


@dataclass(frozen=True)
class Points:
    """Unconnected points.

    Args:
        x: abscissas.
        y: ordinates.
        color: their color.
        size: their diameter in pixels.
        opacity: their opacity.
        look: "dot", "ring" (not filled), or "kept" (a dot with an edge, to be seen on a line).
        texts: a description of each, shown when the reader points at it.
    """

    x: Values
    y: Values
    color: str
    size: float = 6
    opacity: float = 1
    look: Literal["dot", "ring", "kept"] = "dot"
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Bars:
    """Bars that begin at zero.

    Args:
        at: their centers.
        lengths: their values.
        width: their width in units of the axis.
        color: their color.
        texts: a description of each.
        horizontal: whether they extend to the right.
    """

    at: Sequence[float]
    lengths: Sequence[float]
    width: float
    color: str
    texts: Sequence[str]
    horizontal: bool = False


@dataclass(frozen=True)
class Interval:
    """A horizontal interval with a mark at its center."""

    low: float
    center: float
    high: float
    y: float
    color: str


@dataclass(frozen=True)
class Cell:
    """A cell: row, column, strength of its color from 0 to 1, the text in it, and its description."""

    row: int
    column: int
    strength: float
    text: str
    description: str


@dataclass(frozen=True)
class Cells:
    """Cells of a table; their color lies between ``<color>-low`` and ``<color>-high``.

    Args:
        cells: the cells.
        color: the first part of the name of the colors.
        size: size of the font of their text in pixels.
        gap: whether there is a gap between them.
    """

    cells: Sequence[Cell]
    color: str
    size: int = 12
    gap: bool = True


@dataclass(frozen=True)
class Rule:
    """A vertical line over the whole height."""

    x: float
    color: str
    width: float = 1
    dash: Dash = "dot"


@dataclass(frozen=True)
class Texts:
    """Text above points."""

    x: Sequence[float]
    y: Sequence[float]
    texts: Sequence[str]


Mark = Line | Area | Points | Bars | Interval | Cells | Rule | Texts


@dataclass(frozen=True)
class Columns:
    """Descriptions of all lines at certain abscissas, shown when the reader points at a place above or below."""

    x: Sequence[float]
    texts: Sequence[str]


@dataclass(frozen=True)
class Figure:
    """One figure of a page.

    Args:
        key: its id in the page.
        title: its heading.
        label: its content in one sentence, for screen readers.
        marks: what it shows, from back to front.
        x: the horizontal axis.
        y: the vertical axis.
        legend: pairs (CSS class of the marker, label).
        note: a line below the figure.
        shape: its size in the page: half or a third of the width, all of it, or a square of half the width.
        height: its height in pixels; None for that of the shape.
        columns: descriptions of its lines by abscissa.
    """

    key: str
    title: str
    label: str
    marks: Sequence[Mark]
    x: Axis
    y: Axis
    legend: Sequence[tuple[str, str]] = ()
    note: str = ""
    shape: Shape = "half"
    height: int | None = None
    columns: Columns | None = None
