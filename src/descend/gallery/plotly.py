"""Figures drawn by Plotly in the browser: their specification, and the page that contains them.

Panels of the gallery have contour lines and animations, which the static drawings of reports
(:mod:`descend.report.svg`) do not have. A specification is JSON made of dicts; Plotly's Python package is needed only for
its JavaScript. Colors are names of the page's CSS variables (``--s1``), which the page resolves when it draws, so figures
follow light and dark mode. All text from data is escaped for Plotly, which interprets some HTML in text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from descend.gallery.bundle import plotly_bundle
from descend.report.document import document
from descend.report.markup import Html, data_block, element, join
from descend.report.parts import framed

__all__ = [
    "PlotlyFigure",
    "Spec",
    "axis_spec",
    "figure_box",
    "interactive_document",
    "layout_spec",
    "plotly_text",
]

Spec = dict[str, Any]

_SPACE = re.compile(r"[^\S\u00a0]+")
"""White space other than the no-break space, which is shown as it is."""


@dataclass(frozen=True)
class PlotlyFigure:
    """One figure of a page.

    Args:
        key: its id in the page.
        title: its heading.
        label: a description for screen readers.
        data: Plotly's traces.
        layout: Plotly's layout.
        legend: pairs (CSS class of the marker, label).
        note: a line below the figure.
        shape: the class of its size.
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


def figure_box(figure: PlotlyFigure) -> Html:
    """Return the box into which the page's script draws a figure, with heading, legend and note."""
    plot = element("div", class_="plot", id=f"plot-{figure.key}", role="img", aria_label=figure.label)
    return framed(figure.title, plot, figure.legend, figure.note, figure.shape)


def interactive_document(
    title: str,
    *,
    navigation: Html,
    opening: Html,
    body: Html,
    figures: Sequence[PlotlyFigure],
    style: str,
    instead: str,
) -> str:
    """Return a complete HTML page with figures that Plotly draws.

    Args:
        title: title of the page, for the browser's tab.
        navigation: links of the page.
        opening: content above the sections.
        body: the sections, with a box for each figure.
        figures: the figures.
        style: CSS to append to that of the reports.
        instead: text for readers whose browser cannot draw the figures, saying where to find them.
    """
    requires = element("p", f"The figures require JavaScript; {instead}.", class_="warning")
    failed = f"This browser cannot draw the figures (it needs to be from 2023 or later); {instead}."
    library = plotly_bundle()
    return document(
        title,
        navigation=navigation,
        opening=opening,
        body=body,
        style=style,
        notice=join(
            [
                element("noscript", requires),
                element("p", failed, class_="warning", id="figures-failed", hidden=True),
            ]
        ),
        data=join(
            [
                data_block("figures", [figure.specification() for figure in figures]),
                element("script", Html(library.compressed), type="text/plain", id="library"),
            ]
        ),
        script=(files("descend.gallery") / "page.js").read_text(encoding="utf-8"),
        allowed=[library.csp_hash],
    )


def plotly_text(value: str) -> str:
    """Escape a string so that Plotly shows it verbatim, on one line.

    >>> plotly_text("<b>&")
    '&lt;b&gt;&amp;'
    """
    return escape(_SPACE.sub(" ", value).strip(" "), quote=False)


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
