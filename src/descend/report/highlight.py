"""TOML with its parts marked for colouring, character for character the text that was given."""

from __future__ import annotations

import re

from descend.report.markup import Html, element, join

__all__ = ["toml"]

# In order of precedence. A string is consumed whole, so a "#" or "[" inside one is never taken for
# a comment or a table; what no pattern matches (spaces, "=", ",") is plain text.
_TOKENS = re.compile(
    r"""
      (?P<comment>\#[^\n]*)
    | (?P<table>^[ \t]*\[\[?[^\]\n]*\]\]?(?=[ \t]*(?:\#|$)))
    | (?P<key>^[ \t]*(?:[\w.-]+|"[^"\n]*"|'[^'\n]*')(?:\.(?:[\w-]+|"[^"\n]*"))*(?=[ \t]*=))
    | (?P<string>\"\"\".*?\"\"\"|'''.*?'''|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
    | (?P<value>\b(?:true|false|inf|nan)\b|(?<![\w.])[+-]?\d[\w.:+-]*)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


def toml(source: str) -> Html:
    """Markup of a TOML document whose text is ``source``, unchanged.

    Comments, tables, keys, strings and other values each become a span with a class of that name.

    >>> toml('lr = 0.1 # <auto>')
    '<span class="key">lr</span> = <span class="value">0.1</span> <span class="comment"># &lt;auto&gt;</span>'
    """
    pieces: list[str] = []
    end = 0
    for match in _TOKENS.finditer(source):
        pieces.append(source[end : match.start()])
        pieces.append(element("span", match.group(), class_=match.lastgroup))
        end = match.end()
    pieces.append(source[end:])
    return join(pieces)
