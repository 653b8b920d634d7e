"""The pieces that the page is made of: sections, tables, figures, code with a copy button."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from descend.report.figures import Figure
from descend.report.markup import Child, Html, element, join

__all__ = ["code", "facts", "figure_box", "fold", "section", "table"]


def section(key: str, title: str, *children: Child) -> Html:
    """A section of the page with its heading; nothing if it would be empty."""
    body = join(children)
    if not body:
        return body
    return element(
        "section", element("h2", title, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title"
    )


def table(
    caption: str,
    head: Sequence[Child],
    rows: Iterable[Sequence[Child]],
    *,
    numeric: Iterable[int] = (),
    tall: bool = False,
) -> Html:
    """A table inside a box that scrolls, sideways when it is wide, down when it is tall.

    Args:
        caption: what it holds; read aloud, and shown by the heading above it.
        head: a heading for each column.
        rows: cells; the first of a row is the row's heading.
        numeric: places of the columns that are aligned on the right.
        tall: limit its height.
    """
    right = frozenset(numeric)

    def cell(name: str, place: int, child: Child, scope: str | None) -> Html:
        return element(name, child, class_="number" if place in right else None, scope=scope)

    body = [
        element(
            "tr",
            [
                cell("td" if place else "th", place, child, None if place else "row")
                for place, child in enumerate(row)
            ],
        )
        for row in rows
    ]
    headings = element("tr", [cell("th", place, child, "col") for place, child in enumerate(head)])
    return element(
        "div",
        element(
            "table",
            element("caption", caption, class_="unseen"),
            element("thead", headings),
            element("tbody", body),
        ),
        class_="scroll tall" if tall else "scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def facts(pairs: Iterable[tuple[str, Child]], class_: str = "facts") -> Html:
    """Names and values, a line each; a pair without a value is left out."""
    shown = [(name, value) for name, value in pairs if value is not None and value != ""]
    if not shown:
        return Html("")
    return element(
        "dl",
        [element("div", element("dt", name), element("dd", value)) for name, value in shown],
        class_=class_,
    )


def figure_box(figure: Figure) -> Html:
    """The place where the page's script draws a figure, with its heading, legend and note."""
    marks = [element("li", element("span", class_=mark), words) for mark, words in figure.legend]
    legend = element("ul", marks, class_="legend") if marks else None
    return element(
        "figure",
        element("figcaption", element("h3", figure.title), legend),
        element("div", class_="plot", id=f"plot-{figure.key}", role="img", aria_label=figure.label),
        element("p", figure.note, class_="note") if figure.note else None,
        class_=f"figure {figure.shape}",
    )


def code(key: str, content: Child, label: str, *, wrap: bool = False) -> Html:
    """Text to be copied, verbatim, with a button that the page's script enables."""
    return element(
        "div",
        element(
            "button",
            "Copy",
            type="button",
            class_="copy",
            data_copy=key,
            aria_label=f"Copy {label}",
            hidden=True,
        ),
        element(
            "pre",
            element("code", content, id=key),
            tabindex=0,
            role="region",
            aria_label=label,
            class_="wrap" if wrap else None,
        ),
        class_="code",
    )


def fold(summary: str, *children: Child) -> Html:
    """Something that stays closed until asked for."""
    return element("details", element("summary", summary), *children)
