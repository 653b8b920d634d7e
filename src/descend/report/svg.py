"""Figures as SVG that needs no script, follows the colors of the page and fits any width.

Positions are percentages of the coordinate system, so the drawing is stretched to the width of its place while text,
points and lines keep their size in pixels: a picture for a phone and one for a wide screen are the same. Lines and areas
are paths, which have no percentages; they are in a nested drawing of 100 x 100 units that is stretched without the widths
of its strokes. The labels of the axes exist twice, for narrow and wide places; the page's style shows one of the sets.

What a mark means is its ``<title>``, which browsers show when the reader points at it; the page's script shows it at once.

This is our own code, since libraries that draw without a browser fix the size of the drawing, and with it that of the text
(pygal, Matplotlib, leather), or fix the colors, or depend on a large script (Plotly, Bokeh, Vega), which draws late.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from descend.report.axis_labels import LINE, Labels, horizontal_labels, vertical_labels
from descend.report.marks import (
    Area,
    Bars,
    Cell,
    Cells,
    Columns,
    Figure,
    Interval,
    Line,
    Mark,
    Points,
    Rule,
    Texts,
)
from descend.report.markup import Child, Html, element
from descend.report.scales import Scale, scales_of

__all__ = ["draw"]

_WIDTHS = {"narrow": (300, 12), "wide": (400, 18)}
"""For each set of labels: the smallest width of a figure that shows it in pixels, and the longest names in characters."""

_HEIGHTS = {"half": 290, "third": 210, "square": 400, "wide": 340}
"""Heights of the figures in pixels; those of squares are typical."""

_DASHES = {"solid": None, "dash": "6 4", "dot": "2 3"}

_DESCRIBED_CELLS = 1000
"""Number of cells with a description, those with the largest counts; others are merged by color."""


def draw(figure: Figure) -> Html:
    """Return the drawing of a figure."""
    scales = scales_of(figure)
    height = figure.height or _HEIGHTS[figure.shape]
    sets = {
        name: _label_sets(figure, scales, width, height, longest)
        for name, (width, longest) in _WIDTHS.items()
    }
    marks = [_mark(mark, *scales) for mark in figure.marks]
    drawing = element(
        "svg",
        element("rect", width="100%", height="100%", class_="empty") if figure.x.names else None,
        [_grid(figure, name, scales, *labels) for name, labels in sets.items()],
        marks,
        [_tick_labels(figure, name, scales, *labels) for name, labels in sets.items()],
        _titles(figure, sets),
        _columns(figure.columns, scales[0]) if figure.columns else None,
        class_="chart",
        role="img",
        aria_label=figure.label,
        style=_margins(figure, sets),
    )
    return element(
        "div",
        drawing,
        class_="plot",
        id=f"plot-{figure.key}",
        style=f"height:{figure.height}px" if figure.height else None,
    )


Sets = tuple[Labels, Labels]


def _label_sets(figure: Figure, scales: tuple[Scale, Scale], width: int, height: float, longest: int) -> Sets:
    below = 2 * LINE + (LINE if figure.x.title else 0)
    y = vertical_labels(figure.y, scales[1], height - below - LINE, longest)
    return horizontal_labels(figure.x, scales[0], width - y.space - 16, longest), y


def _margins(figure: Figure, sets: dict[str, Sets]) -> str:
    """The distances of the coordinate system from the edges, for both sets of labels, as CSS variables."""
    top = 8 + (LINE + 4 if figure.y.title else 0)
    top += LINE if any(isinstance(mark, Texts) for mark in figure.marks) else 0
    parts = [f"--top:{top}px"]
    for name, (x, y) in sets.items():
        left = max(y.space + (8 if y.space else 2), x.before)
        bottom = x.space + 8 + (LINE + 4 if figure.x.title else 0)
        parts += [f"--{name}-left:{left:.0f}px", f"--{name}-right:{max(x.after, 4):.0f}px"]
        parts.append(f"--{name}-bottom:{bottom:.0f}px")
    return ";".join(parts)


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _percent(value: float) -> str:
    return f"{_number(value)}%"


def _vertical(value: float) -> str:
    """The distance from the top of a height above the horizontal axis, in percent."""
    return _percent(100 - value)


def _grid(figure: Figure, name: str, scales: tuple[Scale, Scale], x: Labels, y: Labels) -> Html:
    lines = []
    if figure.x.grid and not figure.x.names:
        for tick in x.ticks:
            at = _percent(scales[0].at(tick.value) or 0.0)
            lines.append(element("line", x1=at, x2=at, y1="0", y2="100%"))
    if figure.y.grid and not figure.y.names:
        for tick in y.ticks:
            at = _vertical(scales[1].at(tick.value) or 0.0)
            lines.append(element("line", x1="0", x2="100%", y1=at, y2=at))
    return element("g", lines, class_=f"grid {name}")


def _tick_labels(figure: Figure, name: str, scales: tuple[Scale, Scale], x: Labels, y: Labels) -> list[Html]:
    below = [_label_below(tick.label, scales[0].at(tick.value) or 0.0, slanted=x.slanted) for tick in x.ticks]
    left = []
    for tick in y.ticks:
        at = scales[1].at(tick.value) or 0.0
        if figure.y.above:
            top = at + 50 / len(figure.y.names)
            left.append(element("text", tick.label, x="0", y=_vertical(top), dy="14", class_="row"))
        else:
            left.append(element("text", tick.label, x="0", y=_vertical(at), dx="-8", dy="4"))
    return [element("g", below, class_=f"x {name}"), element("g", left, class_=f"y {name}")]


def _label_below(label: str, at: float, *, slanted: bool) -> Html:
    if slanted:
        text = element("text", label, transform="rotate(-45)", class_="slanted")
        return element("svg", text, x=_percent(at), y="100%", overflow="visible")
    lines = label.split("\n")
    if len(lines) == 1:
        return element("text", label, x=_percent(at), y="100%", dy="16")
    spans = [element("tspan", line, x=_percent(at), dy="16" if row == 0 else str(LINE),
                     class_="strong" if row else None) for row, line in enumerate(lines)]  # fmt: skip
    return element("text", spans, y="100%")


def _titles(figure: Figure, sets: dict[str, Sets]) -> list[Html]:
    titles = []
    for name, (x, y) in sets.items():
        if figure.x.title:
            below = f"{x.space + LINE + 6:.0f}"
            titles.append(
                element("text", figure.x.title, x="50%", y="100%", dy=below, class_=f"title {name}")
            )
        if figure.y.title:
            left = f"{-y.space - 8 if y.space else 0:.0f}"
            titles.append(
                element("text", figure.y.title, x="0", y="0", dx=left, dy="-12", class_=f"title start {name}")
            )
    return titles


def _mark(mark: Mark, x: Scale, y: Scale) -> Child:
    match mark:
        case Line():
            return _line(mark, x, y)
        case Area():
            path = _path(mark.x, mark.y, x, y)
            return _stretched(
                element("path", d=path + "z", style=f"fill:var(--{mark.color});opacity:{mark.opacity}")
            )
        case Points():
            return _points(mark, x, y)
        case Bars():
            return _bars(mark, x, y)
        case Interval():
            return _interval(mark, x, y)
        case Cells():
            return _cells(mark, x, y)
        case Rule():
            at = _percent(x.at(mark.x) or 0.0)
            style = f"stroke:var(--{mark.color});stroke-width:{mark.width:g}"
            return element("line", x1=at, x2=at, y1="0", y2="100%", style=style,
                           stroke_dasharray=_DASHES[mark.dash])  # fmt: skip
        case Texts():
            texts = [
                element("text", text, x=_percent(x.at(one) or 0.0), y=_vertical(y.at(other) or 0.0), dy="-6")
                for one, other, text in zip(mark.x, mark.y, mark.texts, strict=True)
            ]
            return element("g", texts, class_="x")


def _stretched(*children: Child) -> Html:
    """Paths in units of percent."""
    return element("svg", *children, viewBox="0 0 100 100", preserveAspectRatio="none", class_="stretched")


def _placed(
    x: Scale, y: Scale, xs: Sequence[float | None], ys: Sequence[float | None]
) -> Iterator[tuple[float, float] | None]:
    for one, other in zip(xs, ys, strict=True):
        left, up = x.at(one), y.at(other)
        yield None if left is None or up is None else (left, 100 - up)


def _path(
    xs: Sequence[float | None],
    ys: Sequence[float | None],
    x: Scale,
    y: Scale,
    *,
    steps: bool = False,
    bridges: bool = False,
) -> str:
    """The commands of a path; a gap begins a new part, unless the line bridges it."""
    commands: list[str] = []
    drawing = False
    for point in _placed(x, y, xs, ys):
        if point is None:
            drawing = drawing and bridges
            continue
        left, down = map(_number, point)
        if not drawing:
            commands.append(f"M{left} {down}")
        elif steps:
            commands.append(f"H{left}V{down}")
        else:
            commands.append(f"L{left} {down}")
        drawing = True
    return "".join(commands)


def _line(mark: Line, x: Scale, y: Scale) -> list[Html]:
    style = f"stroke:var(--{mark.color});stroke-width:{mark.width:g}"
    if mark.opacity != 1:
        style += f";opacity:{mark.opacity:g}"
    title = element("title", mark.text) if mark.text else None
    path = _path(mark.x, mark.y, x, y, steps=mark.steps, bridges=mark.bridges)
    drawn = [
        _stretched(
            element("path", title, d=path, class_="line", style=style, stroke_dasharray=_DASHES[mark.dash])
        )
    ]
    lone = _lone_points(mark)
    if mark.dots or lone:
        at = range(len(mark.y)) if mark.dots else lone
        xs, ys = [mark.x[row] for row in at], [mark.y[row] for row in at]
        drawn += _points(Points(xs, ys, mark.color, max(5.0, mark.width), mark.opacity), x, y)
    return drawn


def _lone_points(mark: Line) -> list[int]:
    """The points between two gaps, of which a line shows nothing."""
    known = [False, *(value is not None and math.isfinite(value) for value in mark.y), False]
    return [row for row in range(len(mark.y)) if known[row : row + 3] == [False, True, False]]


def _points(mark: Points, x: Scale, y: Scale) -> list[Html]:
    circles = []
    for row, point in enumerate(_placed(x, y, mark.x, mark.y)):
        if point is not None:
            title = element("title", mark.texts[row]) if mark.texts else None
            circles.append(
                element("circle", title, cx=_percent(point[0]), cy=_percent(point[1]), r=f"{mark.size / 2:g}")
            )
    color = f"var(--{mark.color})"
    style = {
        "dot": f"fill:{color}",
        "ring": f"fill:none;stroke:{color};stroke-width:3",
        "kept": f"fill:{color};stroke:var(--surface);stroke-width:2",
    }[mark.look]
    style += f";opacity:{mark.opacity:g}" if mark.opacity != 1 and not mark.texts else ""
    style += f";fill-opacity:{mark.opacity:g}" if mark.opacity != 1 and mark.texts else ""
    return [element("g", circles, class_="points", style=style)] if circles else []


def _bars(mark: Bars, x: Scale, y: Scale) -> Html:
    along, across = (x, y) if mark.horizontal else (y, x)
    base = along.at(0.0) or 0.0
    bars = []
    for center, length, text in zip(mark.at, mark.lengths, mark.texts, strict=True):
        start, end = sorted(
            (across.at(center - mark.width / 2) or 0.0, across.at(center + mark.width / 2) or 0.0)
        )
        low, high = sorted((base, along.at(length) or base))
        if mark.horizontal:
            box = {"x": low, "width": high - low, "y": 100 - end, "height": end - start}
        else:
            box = {"x": start, "width": end - start, "y": 100 - high, "height": high - low}
        sides = {name: _percent(value) for name, value in box.items()}
        bars.append(element("rect", element("title", text), **sides))
    return element("g", bars, class_="bars", style=f"fill:var(--{mark.color})")


def _interval(mark: Interval, x: Scale, y: Scale) -> Html:
    low, center, high = (x.at(value) or 0.0 for value in (mark.low, mark.center, mark.high))
    up = _vertical(y.at(mark.y) or 0.0)
    between = element("line", x1=_percent(low), x2=_percent(high), y1=up, y2=up)

    def cap(at: float, half: int, width: int) -> Html:
        line = element("line", y1=-half, y2=half, stroke_width=width)
        return element("svg", line, x=_percent(at), y=up, overflow="visible")

    ends = [cap(low, 5, 2), cap(high, 5, 2)] if high > low else []
    style = f"stroke:var(--{mark.color});stroke-width:2"
    return element("g", between, ends, cap(center, 8, 3), class_="interval", style=style)


def _cells(mark: Cells, x: Scale, y: Scale) -> Html:
    """Each cell in two layers: its weak color, and over it the strong one with an opacity."""
    ranked = sorted(mark.cells, key=lambda cell: -cell.strength)
    described, others = ranked[:_DESCRIBED_CELLS], ranked[_DESCRIBED_CELLS:]
    width, height = abs((x.at(1.0) or 0.0) - (x.at(0.0) or 0.0)), abs((y.at(1.0) or 0.0) - (y.at(0.0) or 0.0))
    inset = 0.04 if mark.gap else 0.0

    def box(cell: Cell) -> dict[str, float]:
        left, down = x.at(cell.column) or 0.0, 100 - (y.at(cell.row) or 0.0)
        size = 1 - inset
        return {
            "x": left - size * width / 2,
            "y": down - size * height / 2,
            "width": size * width,
            "height": size * height,
        }

    def outline(cells: Sequence[Cell]) -> str:
        boxes = map(box, cells)
        return "".join(
            f"M{_number(one['x'])} {_number(one['y'])}h{_number(one['width'])}v{_number(one['height'])}h-{_number(one['width'])}z"
            for one in boxes
        )

    weak = _stretched(element("path", d=outline(mark.cells), style=f"fill:var(--{mark.color}-low)"))
    levels: dict[int, list[Cell]] = {}
    for cell in others:
        levels.setdefault(round(20 * cell.strength), []).append(cell)
    merged = [
        element("path", d=outline(cells), fill_opacity=f"{level / 20:g}") for level, cells in levels.items()
    ]
    strong = [
        element(
            "rect",
            element("title", cell.description),
            fill_opacity=_number(cell.strength),
            **{name: _percent(value) for name, value in box(cell).items()},
        )
        for cell in described
    ]
    texts = [
        element(
            "text",
            cell.text,
            x=_percent(x.at(cell.column) or 0.0),
            y=_vertical(y.at(cell.row) or 0.0),
            dy=".35em",
        )
        for cell in mark.cells
        if cell.text
    ]
    return element(
        "g",
        weak,
        _stretched(merged) if merged else None,
        strong,
        element("g", texts, class_="counts", style=f"font-size:{mark.size}px") if texts else None,
        class_="cells",
        style=f"fill:var(--{mark.color}-high)",
    )


def _columns(columns: Columns, x: Scale) -> Html:
    """Invisible columns over the whole height, each with the values at its center."""
    centers = [x.at(value) or 0.0 for value in columns.x]
    halves = [(right - left) / 2 for left, right in pairwise(centers)] or [50.0]
    boxes = []
    for row, (center, text) in enumerate(zip(centers, columns.texts, strict=True)):
        half = min(halves[max(0, row - 1) : row + 1])
        sides = {"x": _percent(center - half), "width": _percent(2 * half)}
        boxes.append(element("rect", element("title", text), **sides, y="0", height="100%"))
    return element("g", boxes, class_="columns")
