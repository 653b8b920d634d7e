from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.report.markup import Html, data_block, element, join


class Reader(HTMLParser):
    """Collects the elements with their attributes, and all text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(markup: str) -> Reader:
    reader = Reader()
    reader.feed(markup)
    reader.close()
    return reader


# HTML parsers replace NUL and carriage returns, as the standard requires.
letters = st.characters(exclude_characters="\0\r", exclude_categories=["Cs"])
injections = st.sampled_from(
    ["<b>", "</p>", "<script>", "<!--", "&lt;", "&#60;", '"', "'", ">", "<img src=x onerror=y>"]
)
texts = st.lists(st.text(letters, max_size=3) | injections, max_size=5).map("".join)


@given(texts, texts)
def test_text_and_attributes_round_trip(inside: str, attribute: str) -> None:
    parsed = read(element("p", inside, title=attribute))
    assert parsed.elements == [("p", {"title": attribute})]
    assert parsed.text == inside


@given(st.recursive(texts, lambda inner: st.lists(inner), max_leaves=8))
def test_text_never_creates_elements(children: object) -> None:
    assert read(join(children)).elements == []


def test_markup_is_not_escaped() -> None:
    assert element("p", element("b", "x"), Html("<br>"), None, 3) == "<p><b>x</b><br>3</p>"


def test_attributes() -> None:
    assert element("i", hidden=True, class_=None, tabindex=0, aria_label="a") == (
        '<i hidden tabindex="0" aria-label="a"></i>'
    )


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=6))
def test_a_data_block_cannot_be_closed_from_inside(value: object) -> None:
    block = data_block("key", [value, "</script><!--<script>"])
    assert block.lower().count("<script") == 1
    assert block.count("</") == 1
    body = block[block.index(">") + 1 : block.rindex("<")]
    assert json.loads(body) == [value, "</script><!--<script>"]


def test_a_data_block_refuses_nan() -> None:
    with pytest.raises(ValueError, match="JSON"):
        data_block("key", float("nan"))
