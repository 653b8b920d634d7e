"""Tables as plain text for a terminal and as Markdown, and wrapped paragraphs and lists for result pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["bullets", "markdown_table", "paragraph", "plain_table"]

WIDTH = 120
"""Bytes per line of Markdown prose. Tables are not wrapped."""

Rows = Sequence[Sequence[str]]


def plain_table(header: Sequence[str], rows: Rows) -> str:
    """Return an aligned table; the first column is left-aligned, the others right-aligned.

    >>> print(plain_table(["name", "us"], [["a", "1"], ["bc", "20"]]))
    name  us
    a      1
    bc    20
    """
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        first, *others = (
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def markdown_table(header: Sequence[str], rows: Rows) -> str:
    """Return a Markdown table; vertical bars in cells are escaped.

    >>> print(markdown_table(["name", "us"], [["a", "1"]]))
    | name | us |
    | :-- | --: |
    | a | 1 |
    """
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def paragraph(text: str, *, indent: str = "") -> str:
    r"""Wrap text at 120 bytes of UTF-8; ``indent`` precedes all lines but the first.

    >>> paragraph("word " * 30).count("\n")
    1
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and len(longer.encode()) > WIDTH:
            lines.append(indent + word)
        else:
            lines[-1:] = [longer]
    return "\n".join(lines)


def bullets(items: Iterable[str]) -> str:
    """Return a Markdown list with wrapped items.

    >>> print(bullets(["one", "two"]))
    - one
    - two
    """
    return "\n".join(paragraph(f"- {item}", indent="  ") for item in items)
