"""A picture as a PNG file, rendered by Matplotlib from the same numbers as the page."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from descend.errors import require
from descend.gallery.palette import light
from descend.gallery.picture import Axis, Bars, Cells, Contours, Line, Mark, Numbers, Panel, Picture, Points

__all__ = ["WIDTH", "check", "image_size", "render_png"]

WIDTH = 1600
"""Width of the image in pixels."""

_DPI = 125
_ROW = {"half": 490, "third": 400, "square": 760, "tile": 560, "wide": 520, "strip": 210}
_COLUMNS = 6
_SHARE = {"half": 3, "third": 2, "square": 3, "tile": 2, "wide": 6, "strip": 3}
_HEAD, _LINE, _FOOT = 92, 30, 26
_WRAP = 142
_STYLE: dict[str, Any] = {
    "font.size": 10.5,
    "font.family": ["DejaVu Sans"],
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "text.parse_math": False,
}

_DASHES = {"solid": "-", "dash": "--", "dot": ":"}


def check() -> None:
    """Check that pictures can be rendered.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    require("matplotlib", "gallery", "rendering a PNG file of the gallery")


def rows_of(picture: Picture) -> list[list[Panel]]:
    """Return the panels as the page lays them out: in six columns, each row filled as far as possible."""
    rows: list[list[Panel]] = []
    room = 0
    for panel in picture.panels:
        wants = _SHARE[panel.shape]
        if wants > room:
            rows.append([])
            room = _COLUMNS
        rows[-1].append(panel)
        room -= wants
    return rows


def image_size(picture: Picture) -> tuple[int, int]:
    """Return the width and height in pixels."""
    heights = [_row_height(row) for row in rows_of(picture)]
    return WIDTH, _HEAD + _LINE * len(_text_lines(picture)) + _FOOT + sum(heights)


def _text_lines(picture: Picture) -> list[str]:
    paragraphs = (f"Claim: {picture.claim}", f"Finding: {picture.finding}", picture.verdict)
    return [line for paragraph in paragraphs for line in textwrap.wrap(paragraph, _WRAP)]


def render_png(picture: Picture) -> bytes:
    """Return the picture as the content of a PNG file, of the size :func:`image_size`.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    matplotlib: Any = require("matplotlib", "gallery", "rendering a PNG file of the gallery")
    figures: Any = require("matplotlib.figure", "gallery", "rendering a PNG file of the gallery")
    width, height = image_size(picture)
    colors = light()
    look = _STYLE | {
        "axes.labelcolor": colors["muted"],
        "axes.edgecolor": colors["axis"],
        "axes.titlecolor": colors["ink"],
        "xtick.color": colors["muted"],
        "ytick.color": colors["muted"],
        "text.color": colors["ink"],
        "grid.color": colors["grid"],
    }
    with matplotlib.rc_context(look):
        figure = figures.Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=colors["surface"])
        left = 28 / width
        figure.text(left, 1 - 34 / height, picture.title, fontsize=17, fontweight="bold", va="center")
        text = "\n".join(_text_lines(picture))
        figure.text(left, 1 - 64 / height, text, fontsize=11, va="top", linespacing=1.45)
        top = height - _HEAD - _LINE * len(_text_lines(picture))
        for row in rows_of(picture):
            row_height = _row_height(row)
            _draw_row(figure, row, top, row_height, (width, height))
            top -= row_height
        out = io.BytesIO()
        figure.savefig(out, format="png", dpi=_DPI, metadata={"Software": None})
    return out.getvalue()


def _note_lines(panel: Panel, panel_width: float) -> list[str]:
    return textwrap.wrap(panel.note, int((panel_width - 60) / 9.6))


def _panel_width(panel: Panel) -> float:
    return _SHARE[panel.shape] / _COLUMNS * WIDTH


def _row_height(row: Sequence[Panel]) -> int:
    """Return the height of a row, with its longest note and legend."""
    notes = max(len(_note_lines(panel, _panel_width(panel))) for panel in row)
    return max(_ROW[panel.shape] for panel in row) + (26 * notes + 6 if notes else 0)


def _draw_row(
    figure: Any, row: Sequence[Panel], top: float, row_height: float, image: tuple[int, int]
) -> None:
    width, height = image
    at = 0
    for panel in row:
        share = _SHARE[panel.shape]
        x0 = at / _COLUMNS * width
        panel_width = share / _COLUMNS * width
        left = 86 if panel.y.ticks or panel.y.title else 30
        notes = _note_lines(panel, panel_width)
        max_lines = max(len(_note_lines(one, _panel_width(one))) for one in row)
        foot = (72 if panel.x.ticks or panel.x.title else 34) + (26 * max_lines + 6 if max_lines else 0)
        head = 50 + 25 * _legend_rows(panel, panel_width)
        box = (x0 + left, top - row_height + foot, panel_width - left - 28, row_height - foot - head)
        _draw_panel(
            figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height)),
            panel,
            panel_width,
        )
        if notes:
            figure.text(
                (x0 + min(left, 40)) / width,
                (top - row_height + 26 * max_lines) / height,
                "\n".join(notes),
                fontsize=9.5,
                va="top",
                color=light()["muted"],
                linespacing=1.3,
            )
        at += share


def _entries(panel: Panel) -> list[Mark]:
    seen: dict[str, Mark] = {}
    for mark in panel.marks:
        name = getattr(mark, "name", "")
        if name and name not in seen:
            seen[name] = mark
    return list(seen.values())


def _legend_columns(panel: Panel, panel_width: float) -> int:
    entries = _entries(panel)
    longest = max((len(mark.name) for mark in entries if not isinstance(mark, Contours | Cells)), default=1)
    return max(1, min(len(entries), int((panel_width - 100) / (62 + 9.6 * longest))))


def _legend_rows(panel: Panel, panel_width: float) -> int:
    entries = _entries(panel)
    return math.ceil(len(entries) / _legend_columns(panel, panel_width)) if entries else 0


def _draw_panel(axes: Any, panel: Panel, panel_width: float) -> None:
    legend = _legend_rows(panel, panel_width)
    axes.set_title(panel.title, pad=(16 + legend * 25) * 72 / _DPI)
    axes.grid(True, linewidth=0.7)
    axes.set_axisbelow(True)
    bars = [mark for mark in panel.marks if isinstance(mark, Bars)]
    for mark in panel.marks:
        if isinstance(mark, Bars):
            _draw_bars(axes, mark, bars.index(mark), bars)
        else:
            _DRAW[type(mark)](axes, mark)
    for side, axis in (("x", panel.x), ("y", panel.y)):
        _axis(axes, side, axis, categorical=side == "x" and bool(bars), few=_SHARE[panel.shape] < 3)
    if panel.equal:
        axes.set_aspect("equal", adjustable="box")
    if any(isinstance(mark, Cells | Contours) for mark in panel.marks):
        axes.grid(False)
    if legend:
        entries = _entries(panel)
        handles = [_handle(axes, mark.name) for mark in entries if not isinstance(mark, Contours | Cells)]
        axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=_legend_columns(panel, panel_width),
            borderaxespad=0.2,
            handlelength=1.7,
            columnspacing=1.3,
            borderpad=0,
            labelspacing=0.3,
        )


def _handle(axes: Any, name: str) -> Any:
    handles, labels = axes.get_legend_handles_labels()
    return handles[labels.index(name)]


def _axis(axes: Any, side: str, axis: Axis, *, categorical: bool, few: bool) -> None:
    getattr(axes, f"set_{side}label")(axis.title)
    if axis.log:
        ticker: Any = require("matplotlib.ticker", "gallery", "rendering a PNG file of the gallery")
        getattr(axes, f"set_{side}scale")("log")
        scale = getattr(axes, f"{side}axis")
        scale.set_major_formatter(ticker.FuncFormatter(_power))
        scale.set_minor_formatter(ticker.NullFormatter())
    if axis.ends:
        getattr(axes, f"set_{side}lim")(*axis.ends)
    elif not categorical and few:
        axes.locator_params(axis=side, nbins=5)
    if not axis.ticks and not categorical:
        getattr(axes, f"set_{side}ticks")([])


def _power(value: float, _: object = None) -> str:
    """Format a tick of a logarithmic axis: moderate numbers plainly, others as powers of ten.

    >>> _power(100.0), _power(1e-12)
    ('100', '10⁻¹²')
    """
    exponent = round(math.log10(value))
    if -2 <= exponent <= 3:
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _floats(values: Numbers) -> list[float]:
    return [math.nan if value is None else value for value in values]


def _color(color: str) -> str:
    return light()[color]


def _draw_line(axes: Any, mark: Line) -> None:
    color = _color(mark.color)
    if mark.low:
        axes.fill_between(
            _floats(mark.x), _floats(mark.low), _floats(mark.high), color=color, alpha=0.18, linewidth=0
        )
    axes.plot(
        _floats(mark.x),
        _floats(mark.y),
        color=color,
        linestyle=_DASHES[mark.dash],
        linewidth=mark.width * 0.85,
        marker="o" if mark.dots else None,
        markersize=4,
        label=mark.name or None,
    )


def _draw_points(axes: Any, mark: Points) -> None:
    axes.scatter(
        _floats(mark.x),
        _floats(mark.y),
        s=(mark.size * 0.75) ** 2,
        color=_color(mark.color),
        alpha=mark.opacity,
        linewidths=0,
        label=mark.name or None,
        zorder=3,
    )


def _draw_bars(axes: Any, mark: Bars, at: int, all_bars: Sequence[Bars]) -> None:
    labels = list(dict.fromkeys(label for one in all_bars for label in one.labels))
    grouped = len(all_bars) > 1 and len({one.labels for one in all_bars}) == 1
    bar_width = 0.8 / len(all_bars) if grouped else 0.65
    shift = (at - (len(all_bars) - 1) / 2) * bar_width if grouped else 0.0
    places = [labels.index(label) + shift for label in mark.labels]
    values = _floats(mark.values)
    axes.bar(places, values, bar_width * 0.92, color=_color(mark.color), alpha=0.88, label=mark.name or None)
    if mark.low:
        errors = [
            [value - low for value, low in zip(values, _floats(mark.low), strict=True)],
            [high - value for value, high in zip(values, _floats(mark.high), strict=True)],
        ]
        axes.errorbar(places, values, errors, fmt="none", ecolor=_color("ink"), elinewidth=1.2, capsize=3)
    room = max(6, 62 // len(labels)) if len(labels) > 3 else 30
    axes.set_xticks(range(len(labels)), [textwrap.fill(label, room) for label in labels])


def _draw_contours(axes: Any, mark: Contours) -> None:
    colors: Any = require("matplotlib.colors", "gallery", "rendering a PNG file of the gallery")
    ramp = colors.LinearSegmentedColormap.from_list("sea", [_color("right-low"), _color("surface")])
    z = [_floats(row) for row in mark.z]
    axes.contourf(_floats(mark.x), _floats(mark.y), z, levels=mark.levels, cmap=ramp)
    axes.contour(
        _floats(mark.x), _floats(mark.y), z, levels=mark.levels, colors=[_color("axis")], linewidths=0.5
    )


def _draw_cells(axes: Any, mark: Cells) -> None:
    colors: Any = require("matplotlib.colors", "gallery", "rendering a PNG file of the gallery")
    ends = ["#16191c", "#f4f5f6"] if mark.gray else [_color("sunken"), _color("right-high")]
    ramp = colors.LinearSegmentedColormap.from_list("cells", ends)
    z = [_floats(row) for row in mark.z]
    axes.imshow(z, cmap=ramp, vmin=mark.low, vmax=mark.high, aspect="auto", interpolation="nearest")
    if not mark.gray:
        rows, columns = len(z), len(z[0])
        axes.set_xticks([column - 0.5 for column in range(1, columns)], minor=True)
        axes.set_yticks([row - 0.5 for row in range(1, rows)], minor=True)
        axes.grid(True, which="minor", color=_color("surface"), linewidth=2)
        axes.tick_params(which="minor", length=0)
    for row, line in enumerate(mark.text):
        for column, word in enumerate(line):
            axes.text(column, row, word, ha="center", va="center", fontsize=9.5)


_DRAW: dict[type, Callable[[Any, Any], None]] = {
    Line: _draw_line,
    Points: _draw_points,
    Contours: _draw_contours,
    Cells: _draw_cells,
}
