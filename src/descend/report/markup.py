"""HTML elements with automatic escaping.

There are two kinds of strings: :class:`Html`, which is markup, and all others, which are text and are escaped when they
enter an element. Only :func:`element` creates markup, so a column named ``<script>`` is always shown as text.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape

__all__ = ["Child", "Html", "data_block", "element", "join"]

_VOID = frozenset({"br", "col", "img", "link", "meta", "wbr"})


class Html(str):
    """A string that contains markup and is not escaped again."""

    __slots__ = ()


Child = str | int | None | Iterable["Child"]
"""Content of an element: markup, text (escaped), an integer, None (nothing), or an iterable of these."""


def join(children: Child) -> Html:
    """Return the markup of one child, or of several in order.

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
    """Return an element with its attributes and children.

    Args:
        name: the tag.
        children: markup is kept, text is escaped, None is skipped, iterables are joined.
        attributes: ``class_`` means ``class``, ``aria_label`` means ``aria-label``; True sets an attribute without a
            value, None and False omit it.

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
    r"""Return JSON in a script element that browsers do not execute, safe for any strings.

    Inside a script element the HTML parser recognizes only ``</script`` and ``<!--``, so every ``<`` is written as a
    JSON escape.

    Args:
        key: the id of the element.
        value: a JSON value.

    Raises:
        ValueError: the value contains NaN or an infinity, which JSON cannot represent.

    >>> data_block("d", ["</script>"])
    '<script type="application/json" id="d">["\\u003c/script>"]</script>'
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return element("script", Html(text.replace("<", "\\u003c")), type="application/json", id=key)
