"""The HTML document of a report, self-contained: style, script and figures are inside."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from descend.files import write_atomically
from descend.report.bundle import csp_hash, plotly_bundle
from descend.report.figures import Figure
from descend.report.markup import Html, data_block, element, join

__all__ = ["document", "write_page"]


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
    """Return a complete HTML page in the style of the reports.

    A content security policy in the page forbids all requests and all scripts except the page's own two, which it
    identifies by hash. So even text that was not escaped could do no harm.

    Args:
        title: title of the page, for the browser's tab.
        navigation: links to the sections.
        opening: content above the sections.
        body: the sections.
        figures: the figures that the script draws into their boxes in ``opening`` and ``body``.
        style: CSS to append to the reports' style.
        instead: text for readers whose browser cannot draw the figures, saying where to find the numbers.

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


def write_page(path: Path, page: str) -> Path:
    """Write an HTML page. The file is complete or absent, and an earlier one is kept until the new one is complete.

    Args:
        path: where to write it.
        page: the document; characters that UTF-8 cannot encode (lone surrogates) become character references.

    Returns:
        ``path``.

    Raises:
        RunError: the file cannot be written.
    """
    write_atomically(path, page.encode("utf-8", "xmlcharrefreplace"))
    return path


def _resource(name: str) -> str:
    return (files("descend.report") / name).read_text(encoding="utf-8")


def _policy(script: str, *, drawing: bool) -> str:
    scripts = [csp_hash(script), *([plotly_bundle().csp_hash] if drawing else [])]
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
    """The figures and the compressed library; nothing if there are no figures."""
    if not figures:
        return Html("")
    library = element("script", Html(plotly_bundle().compressed), type="text/plain", id="library")
    return join([data_block("figures", [figure.specification() for figure in figures]), library])
