"""The report's figures, as plain Plotly specifications.

A specification is JSON made of dicts; nothing of Plotly's Python side is imported to build one. A colour is
named by the page's own CSS variable (``--validation``), which the page resolves when it draws, so figures
follow light and dark mode. All words from data are escaped for Plotly, which reads a little HTML in text.
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
    "Figure",
    "Spec",
    "Values",
    "agreement",
    "axis_spec",
    "confusion",
    "errors",
    "layout_spec",
    "plotly_text",
    "rounded",
]

Spec = dict[str, Any]
Values = Sequence[float | None]

_CELL = "true %{y}<br>predicted %{x}<br>%{customdata:,d} rows, %{z:.1%} of the class<extra></extra>"


@dataclass(frozen=True)
class Figure:
    """One figure.

    Args:
        key: its id in the page.
        title: its heading.
        label: what it shows, in words, for those who cannot see it.
        data: Plotly's traces.
        layout: Plotly's layout.
        legend: what its colours and lines mean: the class of a mark in the page's style, and words.
        note: a line below it.
        shape: its width and height in the page: "half", "third" or "square"; "tile" is a square third and
            "wide" the whole width, for pages whose style has them.
        frames: states that the reader can play, as Plotly's frames.
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
        """What the page's script needs to draw it."""
        drawn = {"key": self.key, "shape": self.shape, "data": self.data, "layout": self.layout}
        return drawn | ({"frames": list(self.frames)} if self.frames else {})


def plotly_text(value: str) -> str:
    """A string that Plotly shows as it is: on one line, its markup inert.

    >>> plotly_text("<b>&")
    '&lt;b&gt;&amp;'
    """
    return escape(" ".join(value.split()), quote=False)


def rounded(values: Values, digits: int = 5) -> list[float | None]:
    """Values to so many significant digits, which is more than a screen shows and saves half the text.

    >>> rounded([1 / 3, None])
    [0.33333, None]
    """
    return [None if value is None else float(f"{value:.{digits}g}") for value in values]


def axis_spec(title: str, **more: Any) -> Spec:
    """An axis in the report's style."""
    style = {"automargin": True, "gridcolor": "--grid", "linecolor": "--axis", "zeroline": False}
    return {"title": {"text": title, "standoff": 8}, **style, **more}


def layout_spec(x: Spec, y: Spec, **more: Any) -> Spec:
    """A layout in the report's style."""
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


def confusion(names: Sequence[str], table: Sequence[Sequence[float]], note: str = "") -> Figure:
    """The confusion matrix: a row per true class, a column per predicted one.

    A cell's colour is its share of its row: blue on the diagonal (right), orange elsewhere (wrong). The two
    are scaled apart, so that rare mistakes show. Counts are printed while there is room for them.

    Args:
        names: the K classes.
        table: (K, K) counts.
        note: a line below it.
    """
    size = len(names)
    shares = [rounded([cell / (sum(row) or 1.0) for cell in row], 4) for row in table]
    right = [[value if i == j else None for j, value in enumerate(row)] for i, row in enumerate(shares)]
    wrong = [
        [value if i != j and value else None for j, value in enumerate(row)] for i, row in enumerate(shares)
    ]
    most_wrong = max((value for row in wrong for value in row if value is not None), default=0.0)
    labels = _told_apart([plotly_text(name) or "(empty)" for name in names])
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
        {**common, "z": right, "zmax": 1, "colorscale": [[0, "--right-low"], [1, "--right-high"]]},
        {
            **common,
            "z": wrong,
            "zmax": max(0.1, most_wrong),
            "colorscale": [[0, "--wrong-low"], [1, "--wrong-high"]],
        },
    ]
    if size <= 12:
        for trace in data:
            trace |= {"text": _printed(table, trace["z"]), "texttemplate": "%{text}"}
            trace["textfont"] = {"color": "--ink", "size": 14 if size <= 6 else 11}
    ticks = _class_ticks(names, labels)
    layout = layout_spec(
        axis_spec("predicted class", **ticks),
        axis_spec("true class", **ticks, autorange="reversed"),
        hovermode="closest",
    )
    hits = sum(table[place][place] for place in range(size))
    label = (
        f"Confusion matrix of {size} classes: {hits:,.0f} of {sum(map(sum, table)):,.0f} rows are on the "
        "diagonal, which is right. The tables of classes and of mistakes hold the same counts."
    )
    legend = [
        ("swatch right", "right"),
        ("swatch wrong", "wrong; stronger for a larger share of the true class"),
    ]
    return Figure("confusion", "Confusion matrix", label, data, layout, legend, note, "square")


def _printed(table: Sequence[Sequence[float]], coloured: Sequence[Values]) -> list[list[str]]:
    """Counts of the cells that have a colour; nothing in the others."""
    return [
        [f"{cell:,.0f}" if z is not None else "" for cell, z in zip(*rows, strict=True)]
        for rows in zip(table, coloured, strict=True)
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


def _told_apart(labels: Sequence[str]) -> list[str]:
    """Labels with a number where two are the same, since a category axis would merge them."""
    seen: Counter[str] = Counter()
    told = []
    for label in labels:
        seen[label] += 1
        told.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return told


def agreement(
    key: str, title: str, true: Sequence[float], predicted: Sequence[float], limit: int = 2000
) -> Figure:
    """Predicted against true values of one target; on the dashed line they agree.

    Args:
        key: the figure's id.
        title: its heading.
        true: (n,) true values.
        predicted: (n,) predictions.
        limit: at most so many points are drawn, evenly taken from all.
    """
    step = max(1, math.ceil(len(true) / limit))
    low, high = min(*true, *predicted), max(*true, *predicted)
    room = 0.04 * (high - low) or abs(high) or 1.0
    ends = [low - room, high + room]
    drawn = len(true[::step])
    data: list[Spec] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ends,
            "y": ends,
            "line": {"color": "--validation", "width": 1.5, "dash": "dash"},
            "hoverinfo": "skip",
        },
        {
            "type": "scatter",
            "mode": "markers",
            "x": rounded(true[::step]),
            "y": rounded(predicted[::step]),
            "marker": {"color": "--training", "size": 6 if drawn <= 600 else 4, "opacity": 0.55},
            "hovertemplate": "true %{x:,.5~g}<br>predicted %{y:,.5~g}<extra></extra>",
        },
    ]
    layout = layout_spec(
        axis_spec("true", range=ends, nticks=6),
        axis_spec("predicted", range=ends, nticks=6),
        hovermode="closest",
    )
    label = f"{title}: {len(true):,} points between {amount(low)} and {amount(high)}."
    note = f"{drawn:,} of {len(true):,} points are drawn." if step > 1 else ""
    return Figure(key, title, label, data, layout, note=note, shape="square")


def errors(key: str, true: Sequence[float], predicted: Sequence[float]) -> Figure:
    """How the errors, predicted less true, are distributed: a histogram with a bar's edge at 0.

    Bars have the width of Freedman and Diaconis, 2 IQR / n^(1/3), but there are at most sixty.

    Args:
        key: the figure's id.
        true: (n,) true values.
        predicted: (n,) predictions.

    Source: Freedman and Diaconis, "On the histogram as a density estimator", 1981.
    """
    off = sorted(guess - value for value, guess in zip(true, predicted, strict=True))
    spread = off[-1] - off[0]
    middle_half = off[(3 * len(off)) // 4] - off[len(off) // 4]
    width = max(2 * middle_half / len(off) ** (1 / 3), spread / 60) or abs(off[0]) or 1.0
    bars = Counter(math.floor(error / width) for error in off)
    places = range(min(bars), max(bars) + 1)
    data: list[Spec] = [
        {
            "type": "bar",
            "x": rounded([(place + 0.5) * width for place in places]),
            "y": [bars[place] for place in places],
            "width": width,
            "marker": {"color": "--training", "opacity": 0.8, "line": {"color": "--surface", "width": 1}},
            "hovertemplate": "error about %{x:,.3~g}<br>%{y:,d} rows<extra></extra>",
        }
    ]
    nought = {"type": "line", "xref": "x", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1}
    layout = layout_spec(
        axis_spec("predicted less true", nticks=7),
        axis_spec("rows", rangemode="tozero", nticks=6),
        hovermode="closest",
        bargap=0,
        shapes=[{**nought, "line": {"color": "--validation", "width": 1.5, "dash": "dash"}}],
    )
    share = sum(error > 0 for error in off) / len(off)
    label = (
        f"Errors of {len(off):,} predictions: from {amount(off[0])} to {amount(off[-1])}, "
        f"half of them between {amount(off[len(off) // 4])} and {amount(off[(3 * len(off)) // 4])}."
    )
    note = f"{100 * share:.0f} % of the predictions are too high."
    return Figure(key, "Errors", label, data, layout, note=note, shape="square")
