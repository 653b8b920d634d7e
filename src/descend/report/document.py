"""The HTML document of a report, self-contained: style, script and figures are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from descend.files import write_atomically
from descend.report.markup import Child, Html, element, join

__all__ = ["csp_hash", "document", "write_page"]


def csp_hash(script: str) -> str:
    """Return the source expression that allows a script in a content security policy (CSP level 3, section 2.3.1).

    >>> csp_hash("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def document(
    title: str,
    *,
    navigation: Html,
    opening: Html,
    body: Html,
    style: str = "",
    notice: Child = None,
    data: Child = None,
    script: str = "",
    allowed: Sequence[str] = (),
) -> str:
    """Return a complete HTML page in the style of the reports.

    Its figures are part of ``opening`` and ``body`` and need no script. A content security policy in the page forbids all
    requests and all scripts except its own, which it identifies by hash. So even text that was not escaped could do no
    harm.

    Args:
        title: title of the page, for the browser's tab.
        navigation: links to the sections.
        opening: content above the sections.
        body: the sections.
        style: CSS to append to the reports' style.
        notice: content between ``opening`` and ``body``, such as a warning for browsers without scripts.
        data: elements that are not shown, which ``script`` reads.
        script: JavaScript to run in addition to that of the reports.
        allowed: source expressions of further scripts, which ``script`` inserts.

    >>> empty = Html("")
    >>> page = document("a < b", navigation=empty, opening=empty, body=empty)
    >>> "<title>a &lt; b" in page, "default-src 'none'" in page
    (True, True)
    """
    own = _resource("page.js")
    scripts = [own, script] if script else [own]
    return Template(_resource("page.html")).substitute(
        title=join(f"{title} \N{MIDDLE DOT} descend"),
        policy=_policy([*map(csp_hash, scripts), *allowed]),
        style=_resource("page.css") + _resource("figures.css") + style,
        navigation=navigation,
        opening=opening,
        notice=join(notice),
        body=body,
        data=join(data),
        scripts=join([element("script", Html(one)) for one in scripts]),
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


def _policy(scripts: Sequence[str]) -> str:
    rules = [
        "default-src 'none'",
        "script-src " + " ".join(scripts),
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)
