"""The components of a page: sections, tables, figure boxes, code blocks with a copy button."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from descend.report.marks import Figure
from descend.report.markup import Child, Html, element, join
from descend.report.svg import draw

__all__ = ["code", "facts", "figure_box", "fold", "framed", "navigation", "section", "table"]


def navigation(sections: Mapping[str, str], body: Html) -> Html:
    """Return a list of links to those sections that the page contains.

    Args:
        sections: titles by section id, in order.
        body: the sections of the page.
    """
    links = [
        element("li", element("a", title, href=f"#{key}"))
        for key, title in sections.items()
        if f'<section id="{key}"' in body
    ]
    return element("ul", links)


def section(key: str, title: str, *children: Child) -> Html:
    """Return a section with its heading; nothing if it would be empty."""
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
    """Return a table in a box that scrolls horizontally if it is wide, and vertically if it is tall.

    Args:
        caption: its content, for screen readers; the heading above the table shows it to others.
        head: a heading for each column.
        rows: cells; the first cell of a row is the row's heading.
        numeric: indices of the right-aligned columns.
        tall: whether to limit the height.
    """
    right_aligned = frozenset(numeric)

    def cell(name: str, column: int, child: Child, scope: str | None) -> Html:
        return element(name, child, class_="number" if column in right_aligned else None, scope=scope)

    body = [
        element(
            "tr",
            [
                cell("td" if column else "th", column, child, None if column else "row")
                for column, child in enumerate(row)
            ],
        )
        for row in rows
    ]
    headings = element("tr", [cell("th", column, child, "col") for column, child in enumerate(head)])
    return element(
        "div",
        element(
            "table",
            element("caption", caption, class_="visually-hidden"),
            element("thead", headings),
            element("tbody", body),
        ),
        class_="scroll tall" if tall else "scroll",
        tabindex=0,
        role="region",
        aria_label=caption,
    )


def facts(pairs: Iterable[tuple[str, Child]], class_: str = "facts") -> Html:
    """Return a list of names and values, one line each; pairs without a value are omitted."""
    shown = [(name, value) for name, value in pairs if value is not None and value != ""]
    if not shown:
        return Html("")
    return element(
        "dl",
        [element("div", element("dt", name), element("dd", value)) for name, value in shown],
        class_=class_,
    )


def figure_box(figure: Figure) -> Html:
    """Return a figure with heading, legend and note."""
    return framed(figure.title, draw(figure), figure.legend, figure.note, figure.shape)


def framed(title: str, plot: Html, legend: Sequence[tuple[str, str]], note: str, shape: str) -> Html:
    """Return the box of a figure: heading, legend, the drawing and a note.

    Args:
        title: the heading.
        plot: the drawing.
        legend: pairs (CSS class of the marker, label).
        note: a line below the drawing; "" for none.
        shape: the class of the size of the box.
    """
    entries = [element("li", element("span", class_=mark), label) for mark, label in legend]
    return element(
        "figure",
        element(
            "figcaption", element("h3", title), element("ul", entries, class_="legend") if entries else None
        ),
        plot,
        element("p", note, class_="note") if note else None,
        class_=f"figure {shape}",
    )


def code(key: str, content: Child, label: str, *, wrap: bool = False) -> Html:
    """Return a code block with a copy button, which the page's script enables."""
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
    """Return content that is collapsed until the reader opens it."""
    return element("details", element("summary", summary), *children)
