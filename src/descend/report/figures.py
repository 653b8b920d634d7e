"""Figures of a report, as plain Plotly specifications.

A specification is JSON made of dicts; Plotly's Python package is not needed to build one. Colours are names of the
page's CSS variables (``--validation``), which the page resolves when it draws, so figures follow light and dark mode.
All text from data is escaped for Plotly, which interprets some HTML in text.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from descend.report.formatting import amount, short

__all__ = [
    "COUNT_TICKS",
    "SHARE_TICKS",
    "Figure",
    "Spec",
    "Values",
    "axis_spec",
    "confusion_matrix",
    "error_histogram",
    "hover_format",
    "layout_spec",
    "plotly_text",
    "predicted_against_true",
    "rounded",
]

SHARE_TICKS = "~%"
"""Number format of the ticks of shares: as many decimals as the distance of the ticks requires."""

COUNT_TICKS = ",~f"
"""Number format of the ticks of counts. Between two integers, in a small range, there are decimals."""

Spec = dict[str, Any]
Values = Sequence[float | None]

_CELL = "true %{y}<br>predicted %{x}<br>%{customdata:,d} rows, %{z:.1%} of the class<extra></extra>"


@dataclass(frozen=True)
class Figure:
    """One figure of a page.

    Args:
        key: its id in the page.
        title: its heading.
        label: a description for screen readers.
        data: Plotly's traces.
        layout: Plotly's layout.
        legend: pairs (CSS class of the marker, label).
        note: a line below the figure.
        shape: its size in the page: "half", "third" or "square"; "tile" (a square third) and "wide" (the full width)
            are available in pages whose style defines them.
        frames: Plotly's animation frames.
    """

    key: str
    title: str
    label: str
    data: list[Spec]
    layout: Spec
    legend: Sequence[tuple[str, str]] = ()
    note: str = ""
    shape: str = "half"
    frames: Sequence[Spec] = ()

    def specification(self) -> Spec:
        """Return what the page's script needs to draw the figure."""
        spec = {"key": self.key, "shape": self.shape, "data": self.data, "layout": self.layout}
        return spec | ({"frames": list(self.frames)} if self.frames else {})


def plotly_text(value: str) -> str:
    """Escape a string so that Plotly shows it verbatim, on one line.

    >>> plotly_text("<b>&")
    '&lt;b&gt;&amp;'
    """
    return escape(" ".join(value.split()), quote=False)


def rounded(values: Values, digits: int = 5) -> list[float | None]:
    """Round values for a figure: at least ``digits`` significant digits, of the values and of their spread.

    That is enough for a screen and half the size of the JSON. Points that are close together compared with their size,
    such as times in seconds since 1970, stay apart.

    >>> rounded([1 / 3, None]), rounded([1700000000.123456, 1700000009.0])
    ([0.33333, None], [1700000000.1235, 1700000009.0])
    """
    digits = _digits(values, digits) if len(set(values)) > 1 else 12
    return [None if value is None else float(f"{value:.{digits}g}") for value in values]


def _digits(values: Values, digits: int) -> int:
    """The number of significant digits of the largest value that leaves ``digits`` for the spread."""
    known = [value for value in values if value is not None]
    largest = max(map(abs, known), default=0.0)
    spread = max(known, default=0.0) - min(known, default=0.0)
    if not spread:
        return digits
    return min(17, digits + max(0, math.floor(math.log10(largest)) - math.floor(math.log10(spread))))


def hover_format(values: Values) -> str:
    """Return a number format of Plotly in which values that differ on the screen have different texts.

    Thousands have no separators: the values may be years.

    >>> hover_format([0.1, 0.2]), hover_format([1986.0, 2023.0]), hover_format([1.7e9, 1.7e9 + 10])
    ('.5~g', '.7~g', '.13~g')
    """
    largest = max((abs(value) for value in values if value is not None), default=0.0)
    written = math.floor(math.log10(largest)) + 1 if 1 <= largest < 1e15 else 0
    return f".{max(written, min(_digits(values, 5), 15))}~g"


def axis_spec(title: str, **more: Any) -> Spec:
    """Return a Plotly axis in the style of the reports.

    Numbers are written without prefixes of units (0.0005 rather than 500µ); very small and large ones with a power of 10.
    """
    style: Spec = {"automargin": True, "gridcolor": "--grid", "linecolor": "--axis", "zeroline": False}
    style |= {"exponentformat": "power", "minexponent": 5}
    return {"title": {"text": title, "standoff": 8}, **style, **more}


def layout_spec(x: Spec, y: Spec, **more: Any) -> Spec:
    """Return a Plotly layout in the style of the reports."""
    return {
        "xaxis": x,
        "yaxis": y,
        "margin": {"l": 8, "r": 12, "t": 8, "b": 8},
        "font": {"color": "--muted", "size": 12},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "--surface", "bordercolor": "--axis", "font": {"color": "--ink"}},
        "showlegend": False,
        **more,
    }


def confusion_matrix(names: Sequence[str], table: Sequence[Sequence[float]], note: str = "") -> Figure:
    """The confusion matrix: one row per true class, one column per predicted class.

    A cell is coloured by its share of the row, blue on the diagonal (correct) and orange elsewhere (wrong). The two
    colour scales are separate, so that rare mistakes remain visible. Counts are printed for up to 12 classes.

    Args:
        names: the K classes.
        table: (K, K) counts.
        note: a line below the figure.
    """
    size = len(names)
    shares = [rounded([cell / (sum(row) or 1.0) for cell in row], 4) for row in table]
    correct = [[value if i == j else None for j, value in enumerate(row)] for i, row in enumerate(shares)]
    wrong = [
        [value if i != j and value else None for j, value in enumerate(row)] for i, row in enumerate(shares)
    ]
    max_wrong = max((value for row in wrong for value in row if value is not None), default=0.0)
    labels = _unique([plotly_text(name) or "(empty)" for name in names])
    common: Spec = {
        "type": "heatmap",
        "x": labels,
        "y": labels,
        "customdata": [[int(cell) for cell in row] for row in table],
        "xgap": 1 if size <= 40 else 0,
        "ygap": 1 if size <= 40 else 0,
        "zmin": 0,
        "showscale": False,
        "hoverongaps": False,
        "hovertemplate": _CELL,
    }
    data = [
        {**common, "z": correct, "zmax": 1, "colorscale": [[0, "--right-low"], [1, "--right-high"]]},
        {
            **common,
            "z": wrong,
            "zmax": max(0.1, max_wrong),
            "colorscale": [[0, "--wrong-low"], [1, "--wrong-high"]],
        },
    ]
    if size <= 12:
        for trace in data:
            trace |= {"text": _cell_texts(table, trace["z"]), "texttemplate": "%{text}"}
            trace["textfont"] = {"color": "--ink", "size": 14 if size <= 6 else 11}
    ticks = _class_ticks(names, labels)
    layout = layout_spec(
        axis_spec("predicted class", **ticks),
        axis_spec("true class", **ticks, autorange="reversed"),
        hovermode="closest",
    )
    hits = sum(table[index][index] for index in range(size))
    label = (
        f"Confusion matrix of {size} classes: {hits:,.0f} of {sum(map(sum, table)):,.0f} rows are on the diagonal, "
        "that is, predicted correctly. The tables of classes and of mistakes contain the same counts."
    )
    legend = [
        ("swatch right", "correct"),
        ("swatch wrong", "wrong; darker for a larger share of the true class"),
    ]
    return Figure("confusion", "Confusion matrix", label, data, layout, legend, note, "square")


def _cell_texts(table: Sequence[Sequence[float]], colours: Sequence[Values]) -> list[list[str]]:
    """The counts of the coloured cells, and empty strings for the others."""
    return [
        [f"{cell:,.0f}" if z is not None else "" for cell, z in zip(*rows, strict=True)]
        for rows in zip(table, colours, strict=True)
    ]


def _class_ticks(names: Sequence[str], labels: Sequence[str]) -> Spec:
    limit = 18 if len(names) <= 20 else 12
    ticks: Spec = {
        "type": "category",
        "categoryorder": "array",
        "categoryarray": labels,
        "labelalias": {
            label: plotly_text(short(name, limit))
            for label, name in zip(labels, names, strict=True)
            if len(name) > limit
        },
        "showgrid": False,
        "ticks": "",
    }
    return ticks | {"tickmode": "linear", "dtick": 1} if len(names) <= 20 else ticks


def _unique(labels: Sequence[str]) -> list[str]:
    """Number repeated labels, since a category axis would merge them."""
    counts: Counter[str] = Counter()
    unique = []
    for label in labels:
        counts[label] += 1
        unique.append(label if counts[label] == 1 else f"{label} ({counts[label]})")
    return unique


def predicted_against_true(
    key: str, title: str, true: Sequence[float], predicted: Sequence[float], limit: int = 2000
) -> Figure:
    """Predicted against true values of one target, with the identity as a dashed line.

    Args:
        key: the figure's id.
        title: its heading.
        true: (n,) true values.
        predicted: (n,) predictions.
        limit: maximum number of points; beyond it, every k-th point is drawn.
    """
    step = max(1, math.ceil(len(true) / limit))
    low, high = min(*true, *predicted), max(*true, *predicted)
    margin = 0.04 * (high - low) or abs(high) or 1.0
    limits = [low - margin, high + margin]
    shown = len(true[::step])
    hover = hover_format([low, high])
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": limits,
            "y": limits,
            "line": {"color": "--validation", "width": 1.5, "dash": "dash"},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": rounded(true[::step]),
            "y": rounded(predicted[::step]),
            "marker": {"color": "--training", "size": 6 if shown <= 600 else 4, "opacity": 0.55},
            "hovertemplate": f"true %{{x:{hover}}}<br>predicted %{{y:{hover}}}<extra></extra>",
        },
    ]
    layout = layout_spec(
        axis_spec("true", range=limits, nticks=6),
        axis_spec("predicted", range=limits, nticks=6),
        hovermode="closest",
    )
    label = f"{title}: {len(true):,} points between {amount(low)} and {amount(high)}."
    note = f"{shown:,} of {len(true):,} points are shown." if step > 1 else ""
    return Figure(key, title, label, data, layout, note=note, shape="square")


def error_histogram(key: str, true: Sequence[float], predicted: Sequence[float]) -> Figure:
    """A histogram of the errors, predicted minus true, with a bin edge at 0.

    The bin width is that of Freedman and Diaconis, 2 IQR / n^(1/3), with at most about sixty bins.

    Args:
        key: the figure's id.
        true: (n,) true values.
        predicted: (n,) predictions.

    Source: Freedman and Diaconis, "On the histogram as a density estimator", 1981.
    """
    errors = sorted(prediction - value for value, prediction in zip(true, predicted, strict=True))
    n = len(errors)
    lower_quartile, upper_quartile = errors[n // 4], errors[(3 * n) // 4]
    error_range = errors[-1] - errors[0]
    width = (
        max(2 * (upper_quartile - lower_quartile) / n ** (1 / 3), error_range / 60) or abs(errors[0]) or 1.0
    )
    counts = Counter(math.floor(error / width) for error in errors)
    bins = range(min(counts), max(counts) + 1)
    centres = [(index + 0.5) * width for index in bins]
    data: list[Spec] = [
        {
            "type": "bar",
            "x": rounded(centres),
            "y": [counts[index] for index in bins],
            "width": width,
            "marker": {"color": "--training", "opacity": 0.8, "line": {"color": "--surface", "width": 1}},
            "hovertemplate": f"error about %{{x:{hover_format(centres)}}}<br>%{{y:,d}} rows<extra></extra>",
        }
    ]
    few: Spec = {"tickmode": "linear", "tick0": 0, "dtick": 1} if max(counts.values()) < 6 else {}
    zero_line = {"type": "line", "xref": "x", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    layout = layout_spec(
        axis_spec("predicted − true", nticks=7),
        axis_spec("rows", rangemode="tozero", nticks=6, tickformat=COUNT_TICKS, **few),
        hovermode="closest",
        bargap=0,
        shapes=[{**zero_line, "line": {"color": "--validation", "width": 1.5, "dash": "dash"}}],
    )
    share = sum(error > 0 for error in errors) / n
    label = (
        f"Errors of {n:,} predictions: from {amount(errors[0])} to {amount(errors[-1])}, "
        f"half of them between {amount(lower_quartile)} and {amount(upper_quartile)}."
    )
    note = f"{100 * share:.0f} % of the predictions are too high."
    return Figure(key, "Error distribution", label, data, layout, note=note, shape="square")
