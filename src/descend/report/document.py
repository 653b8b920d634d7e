"""A page as one HTML document: style, script and figures inside, and nothing asked of the network."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from string import Template

from descend.report.bundle import bundle, integrity
from descend.report.figures import Figure
from descend.report.markup import Html, data_block, element, join

__all__ = ["document"]


def document(
    title: str,
    *,
    navigation: Html,
    opening: Html,
    body: Html,
    figures: Sequence[Figure],
    style: str = "",
    instead: str = "their numbers are in the tables",
) -> str:
    """A whole page in the report's look.

    A content security policy in the page forbids every request and every script but the two that are meant,
    which it names by their hash. So even text that were not escaped could do no harm.

    Args:
        title: the page's name, for the browser's tab.
        navigation: links to the sections.
        opening: what stands on top.
        body: the sections.
        figures: what the script draws into the places that ``body`` and ``opening`` hold.
        style: CSS to be added to the report's.
        instead: where a reader whose browser cannot draw the figures finds their numbers. Default: in the tables.

    >>> empty = Html("")
    >>> page = document("a < b", navigation=empty, opening=empty, body=empty, figures=[])
    >>> "<title>a &lt; b" in page, "default-src 'none'" in page
    (True, True)
    """
    script = _resource("page.js")
    return Template(_resource("page.html")).substitute(
        title=join(f"{title} \N{MIDDLE DOT} descend"),
        policy=_policy(script, drawing=bool(figures)),
        style=_resource("page.css") + style,
        navigation=navigation,
        opening=opening,
        body=body,
        instead=join(instead),
        data=_payload(figures),
        script=script,
    )


def _resource(name: str) -> str:
    return (files("descend.report") / name).read_text(encoding="utf-8")


def _policy(script: str, *, drawing: bool) -> str:
    scripts = [integrity(script), *([bundle().integrity] if drawing else [])]
    rules = [
        "default-src 'none'",
        "script-src " + " ".join(scripts),
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def _payload(figures: Sequence[Figure]) -> Html:
    """The figures and the packed library; nothing when there is nothing to draw."""
    if not figures:
        return Html("")
    packed = element("script", Html(bundle().packed), type="text/plain", id="library")
    return join([data_block("figures", [figure.specification() for figure in figures]), packed])
