"""HTML whose text is escaped by construction.

Two kinds of string exist: :class:`Html`, which is markup already, and everything else, which is text and is
escaped where it enters an element. Markup is made by :func:`element` alone, so a column named ``<script>``
can only ever be words on the page.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

__all__ = ["Child", "Html", "data_block", "element", "join"]

_VOID = frozenset({"br", "col", "img", "link", "meta", "wbr"})


class Html(str):
    """A string that is markup already."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]
"""What an element may hold: markup, text (escaped), a whole number, nothing, or many of these."""


def join(children: Child) -> Html:
    """Markup of a child, or of many in order.

    >>> join(["1 < 2", Html("<br>"), None, 3])
    '1 &lt; 2<br>3'
    """
    if children is None:
        return Html("")
    if isinstance(children, Html):
        return children
    if isinstance(children, str | int):
        return Html(escape(str(children)))
    return Html("".join(map(join, children)))


def element(name: str, /, *children: Child, **attributes: str | int | bool | None) -> Html:
    """One element with its attributes and children.

    Args:
        name: the tag.
        children: markup as it is, text escaped, None skipped, iterables in order.
        attributes: ``class_`` stands for ``class`` and ``aria_label`` for ``aria-label``; True gives an
            attribute without a value, None and False leave it out.

    >>> element("a", "R&D", href="#x", class_="link", hidden=False)
    '<a href="#x" class="link">R&amp;D</a>'
    >>> element("img", alt='a "b"', src="data:,")
    '<img alt="a &quot;b&quot;" src="data:,">'
    """
    head = name
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        head += f" {key}" if value is True else f' {key}="{escape(str(value))}"'
    if name in _VOID:
        return Html(f"<{head}>")
    return Html(f"<{head}>{join(children)}</{name}>")


def data_block(key: str, value: object) -> Html:
    r"""JSON inside a script element that no browser runs, safe whatever strings it holds.

    Inside a script element the parser looks for ``</script`` and ``<!--`` only, so every ``<`` is written
    as an escape of JSON. NaN and infinities are refused: they are not JSON.

    >>> data_block("d", ["</script>"])
    '<script type="application/json" id="d">["\\u003c/script>"]</script>'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return element("script", Html(text.replace("<", "\\u003c")), type="application/json", id=key)
