"""A table, as plain text for a terminal and as Markdown for a file."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["markdown", "plain"]

Rows = Sequence[Sequence[str]]


def plain(header: Sequence[str], rows: Rows) -> str:
    """
    >>> print(plain(["name", "us"], [["a", "1"], ["bc", "20"]]))
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


def markdown(header: Sequence[str], rows: Rows) -> str:
    """
    >>> print(markdown(["name", "us"], [["a", "1"]]))
    | name | us |
    | :-- | --: |
    | a | 1 |
    """
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cell for cell in row)} |" for row in lines)
