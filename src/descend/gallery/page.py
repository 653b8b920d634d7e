"""A picture as an interactive HTML page, in the style of the report, in one file that works offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from descend.gallery.intervals import Estimate
from descend.gallery.palette import style
from descend.gallery.picture import Axis, Bars, Cells, Contours, Line, Mark, Numbers, Panel, Picture, Points
from descend.gallery.plotly import (
    PlotlyFigure,
    Spec,
    axis_spec,
    figure_box,
    interactive_document,
    layout_spec,
    plotly_text,
)
from descend.report.document import document
from descend.report.formatting import duration
from descend.report.markup import Child, Html, element, join
from descend.report.parts import code, facts, section

__all__ = ["render_index", "render_page"]

_MAX_FRAMES = 30
"""Maximum number of frames of an animated panel."""

_DASH = {"solid": "", "dash": " dash", "dot": " dotted"}


def render_page(picture: Picture, seed: int) -> str:
    """Return the picture as an HTML document.

    Args:
        picture: the picture.
        seed: the seed of the measurement, for the command that repeats it.
    """
    figures = [_figure(f"{picture.name}-{at}", panel) for at, panel in enumerate(picture.panels)]
    command = f"descend gallery {picture.name}" + (f" --seed {seed}" if seed else "")
    body = join(
        [
            section("figure", "Measurement", element("div", map(figure_box, figures), class_="figures")),
            section("see", "What to see", element("p", picture.see)),
            section("repeat", "Reproduction", code("command", command, "the command")),
        ]
    )
    opening = join(
        [
            element("p", "Gallery", class_="eyebrow"),
            element("h1", picture.title),
            element("p", element("strong", "Claim. "), picture.claim, class_="lead"),
            element("p", element("strong", "Finding. "), picture.finding, class_="lead"),
            element("p", _verdict(picture.supported)),
            facts(
                [
                    (_capital(picture.number), _value(picture)),
                    ("Duration", duration(picture.seconds)),
                    ("Seed", str(seed)),
                ],
                class_="tiles",
            ),
        ]
    )
    navigation = element("ul", element("li", element("a", "All figures", href="index.html")))
    return interactive_document(
        picture.title,
        navigation=navigation,
        opening=opening,
        body=body,
        figures=figures,
        style=style(),
        instead=f"{picture.name}.png in the same folder shows the same panels",
    )


def render_index(entries: Sequence[dict[str, Any]]) -> str:
    """Return the index page of the figures in a folder.

    Args:
        entries: for each figure the result of :func:`descend.gallery.folder.summary` and ``image``, a PNG file in base64.
    """

    def card(entry: dict[str, Any]) -> Html:
        image = element(
            "img", src=f"data:image/png;base64,{entry['image']}", alt=entry["finding"], decoding="async"
        )
        link = f"{entry['name']}.html"
        number = entry["number"]
        value = math.nan if number["value"] is None else number["value"]
        estimate = Estimate(value, number["low"], number["high"])
        return element(
            "li",
            element("h3", element("a", entry["title"], href=link)),
            element("a", image, href=link, aria_label=entry["title"]),
            element("p", element("strong", "Claim. "), entry["claim"]),
            element("p", f"{_capital(number['name'])}: ", element("strong", str(estimate))),
            element("p", _verdict(entry["supported"])),
        )

    supported = sum(bool(entry["supported"]) for entry in entries)
    lead = (
        f"{len(entries)} measured figures. The measurement supports the claim of {supported} of them; "
        "the findings of the others describe what was measured."
        if supported < len(entries)
        else f"{len(entries)} measured figures; every measurement supports its claim."
    )
    opening = join(
        [
            element("p", "descend", class_="eyebrow"),
            element("h1", "Gallery"),
            element("p", lead, class_="lead"),
        ]
    )
    body = section("figures-all", "Figures", element("ul", map(card, entries), class_="shelf"))
    return document("Gallery", navigation=Html(""), opening=opening, body=body, style=style())


def _verdict(supported: bool) -> Html:
    text = f"supports the claim: {'yes' if supported else 'no'}"
    return element("span", text, class_="verdict" if supported else "verdict not")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _value(picture: Picture) -> Child:
    text = str(picture.value)
    if picture.value.low is None:
        return text
    value, _, interval = text.partition(" (")
    return [value, element("small", f" {interval.rstrip(')')}")]


def _figure(key: str, panel: Panel) -> PlotlyFigure:
    traces: list[Spec] = []
    legend: list[tuple[str, str]] = []
    moving: list[tuple[int, Line]] = []
    for mark in panel.marks:
        name = getattr(mark, "name", "")
        if panel.moving and isinstance(mark, Line) and name:
            moving.append((len(traces), mark))
        traces += _traces(mark)
        entry = (_legend_class(mark), name)
        if name and entry not in legend:
            legend.append(entry)
    layout = layout_spec(_axis(panel.x, panel, "x"), _axis(panel.y, panel, "y"), hovermode="closest")
    if panel.equal:
        layout["yaxis"] |= {"scaleanchor": "x", "constrain": "domain"}
        layout["xaxis"] |= {"constrain": "domain"}
    if any(isinstance(mark, Bars) for mark in panel.marks):
        layout["xaxis"] |= {"type": "category"}  # labels such as 0.1 are names, not numbers
    if any(isinstance(mark, Cells) for mark in panel.marks):
        layout["yaxis"]["autorange"] = "reversed"
    frames = _frames(moving)
    if frames:
        layout |= _controls(len(frames))
    names = ", ".join(name for _, name in legend)
    label = f"{panel.title}{': ' + names if names else ''}. {panel.note}".strip()
    return PlotlyFigure(key, panel.title, label, traces, layout, legend, panel.note, panel.shape, frames)


def _legend_class(mark: Mark) -> str:
    if isinstance(mark, Line):
        return f"line {mark.color}{_DASH[mark.dash]}"
    color = getattr(mark, "color", "s1")
    return f"{'dot' if isinstance(mark, Points) else 'swatch'} {color}"


def _axis(axis: Axis, panel: Panel, side: str) -> Spec:
    more: Spec = {"showticklabels": axis.ticks, "nticks": 6}
    if axis.log:
        span = _decades(panel.marks, side, axis.ends)
        more |= {"type": "log", "exponentformat": "power", "dtick": max(1, math.ceil(span / 6))}
        if span < 1.2:
            more["dtick"] = "D2"
    if axis.ends:
        more["range"] = [math.log10(end) for end in axis.ends] if axis.log else list(axis.ends)
    if not axis.ticks:
        more |= {"showgrid": False, "ticks": ""}
    return axis_spec(plotly_text(axis.title), **more)


def _decades(marks: Sequence[Mark], side: str, ends: tuple[float, float] | None) -> float:
    """Return the number of powers of ten that an axis spans."""
    values = list(ends or ())
    for mark in () if ends else marks:
        if isinstance(mark, Bars):
            of = (*mark.values, *mark.low, *mark.high) if side == "y" else ()
        elif isinstance(mark, Line):
            of = mark.x if side == "x" else (*mark.y, *mark.low, *mark.high)
        else:
            of = getattr(mark, side, ())
        values += [value for value in of if value is not None and value > 0]
    return math.log10(max(values) / min(values)) if values else 1.0


def _traces(mark: Mark) -> list[Spec]:
    if isinstance(mark, Line):
        return _line(mark)
    if isinstance(mark, Points):
        marker = {"color": _shade(mark.color), "size": mark.size, "opacity": mark.opacity}
        return [_scatter(mark.x, mark.y, mark.name) | {"mode": "markers", "marker": marker}]
    if isinstance(mark, Bars):
        return [_bars(mark)]
    if isinstance(mark, Contours):
        return [_contours(mark)]
    return [_cells(mark)]


def _shade(color: str) -> str:
    return f"--{color}"


def _scatter(x: Numbers, y: Numbers, name: str) -> Spec:
    shown = f"<extra>{plotly_text(name)}</extra>"
    return {
        "type": "scatter",
        "x": list(x),
        "y": list(y),
        "hovertemplate": f"%{{x:.4~g}}, %{{y:.4~g}}{shown}",
    } | ({} if name else {"hoverinfo": "skip", "hovertemplate": None})


def _line(mark: Line) -> list[Spec]:
    traces: list[Spec] = []
    if mark.low:
        edge = {"width": 0, "color": _shade(mark.color)}
        around = {"type": "scatter", "mode": "lines", "line": edge, "hoverinfo": "skip", "x": list(mark.x)}
        soft = f"--{mark.color}-soft"
        traces += [
            around | {"y": list(mark.low)},
            around | {"y": list(mark.high), "fill": "tonexty", "fillcolor": soft},
        ]
    trace = _scatter(mark.x, mark.y, mark.name)
    trace |= {
        "mode": "lines+markers" if mark.dots else "lines",
        "line": {"color": _shade(mark.color), "width": mark.width, "dash": mark.dash},
    }
    if mark.dots:
        trace["marker"] = {"size": 6, "color": _shade(mark.color)}
    return [*traces, trace]


def _bars(mark: Bars) -> Spec:
    trace: Spec = {
        "type": "bar",
        "x": [plotly_text(label) for label in mark.labels],
        "y": list(mark.values),
        "marker": {"color": _shade(mark.color), "opacity": 0.85},
        "hovertemplate": f"%{{x}}: %{{y:.4~g}}<extra>{plotly_text(mark.name)}</extra>",
    }
    if mark.low:
        above = [_gap(high, value) for high, value in zip(mark.high, mark.values, strict=True)]
        below = [_gap(value, low) for low, value in zip(mark.low, mark.values, strict=True)]
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": above,
            "arrayminus": below,
            "color": "--ink",
            "thickness": 1.5,
            "width": 4,
        }
    return trace


def _gap(more: float | None, less: float | None) -> float | None:
    return None if more is None or less is None else more - less


def _contours(mark: Contours) -> Spec:
    known = [value for row in mark.z for value in row if value is not None]
    low, high = min(known), max(known)
    step = (high - low) / mark.levels or 1.0
    return {
        "type": "contour",
        "x": list(mark.x),
        "y": list(mark.y),
        "z": [list(row) for row in mark.z],
        "contours": {"start": low + step / 2, "end": high, "size": step, "coloring": "fill"},
        "colorscale": [[0, "--right-low"], [1, "--surface"]],
        "line": {"color": "--axis", "width": 0.6},
        "showscale": False,
        "hoverinfo": "skip",
    }


def _cells(mark: Cells) -> Spec:
    ends = ["#16191c", "#f4f5f6"] if mark.gray else ["--sunken", "--right-high"]
    trace: Spec = {
        "type": "heatmap",
        "z": [list(row) for row in mark.z],
        "zmin": mark.low,
        "zmax": mark.high,
        "colorscale": [[0, ends[0]], [1, ends[1]]],
        "showscale": False,
        "xgap": 0 if mark.gray else 2,
        "ygap": 0 if mark.gray else 2,
        "hoverinfo": "skip" if mark.gray else "z",
    }
    if mark.text:
        trace |= {
            "text": [[plotly_text(word) for word in row] for row in mark.text],
            "texttemplate": "%{text}",
            "textfont": {"color": "--ink", "size": 12},
        }
    return trace


def _frames(moving: Sequence[tuple[int, Line]]) -> list[Spec]:
    """Return the frames of an animation, in each of which the lines are a little longer."""
    if not moving:
        return []
    longest = max(len(line.x) for _, line in moving)
    ends = sorted({round(longest * (number + 1) / _MAX_FRAMES) or 1 for number in range(_MAX_FRAMES)})
    frames = []
    for end in ends:
        grown = [replace(line, x=line.x[:end], y=line.y[:end]) for _, line in moving]
        frames.append(
            {
                "name": str(end),
                "traces": [at for at, _ in moving],
                "data": [{"x": list(line.x), "y": list(line.y)} for line in grown],
            }
        )
    return frames


def _controls(count: int) -> Spec:
    """Return a button that plays the frames and one that stops; the figure initially shows the last frame."""
    look = {"bgcolor": "--surface", "bordercolor": "--axis", "font": {"color": "--ink", "size": 12}}
    place = {"type": "buttons", "direction": "right", "x": 0, "y": 1, "xanchor": "left", "yanchor": "bottom"}
    time = {"frame": {"duration": 6000 // count, "redraw": False}, "transition": {"duration": 0}}
    buttons = [
        {"label": "Play", "method": "animate", "args": [None, time | {"mode": "immediate"}]},
        {
            "label": "Stop",
            "method": "animate",
            "args": [[None], {"mode": "immediate", "frame": {"duration": 0, "redraw": False}}],
        },
    ]
    menu = {**place, **look, "showactive": False, "pad": {"b": 6, "t": 0, "l": 0}, "buttons": buttons}
    return {"updatemenus": [menu]}
