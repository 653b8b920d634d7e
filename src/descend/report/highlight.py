"""Syntax highlighting of TOML that preserves the text character for character."""

from __future__ import annotations

import re

from descend.report.markup import Html, element, join

__all__ = ["toml"]

# In order of precedence. A string is consumed as a whole, so a "#" or "[" in it is not mistaken for a comment or a
# table. Anything that no pattern matches (spaces, "=", ",") is plain text.
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
    """Return highlighted markup of a TOML document.

    Comments, tables, keys, strings and other values become spans with a class of that name; the text is unchanged.

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
