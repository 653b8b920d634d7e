"""Drawings, read back as XML: positions against closed forms, gaps, descriptions and accessibility."""

from __future__ import annotations

import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.report.figures import confusion_matrix, error_histogram
from descend.report.marks import (
    Axis,
    Cell,
    Cells,
    Columns,
    Figure,
    Interval,
    Line,
    Mark,
    Points,
    Rule,
    Texts,
)
from descend.report.svg import draw
from descend.report.ticks import Tick

UNIT = Axis(limits=(0.0, 10.0))


def drawn(
    *marks: Mark, x: Axis = UNIT, y: Axis = UNIT, columns: Columns | None = None
) -> ElementTree.Element:
    return parsed(Figure("k", "t", "One sentence.", marks, x, y, columns=columns))


def parsed(figure: Figure) -> ElementTree.Element:
    return ElementTree.fromstring(draw(figure))


def paths(root: ElementTree.Element) -> list[str]:
    return [each.attrib["d"] for each in root.iter("path")]


def share(value: str) -> float:
    assert value.endswith("%")
    return float(value[:-1])


def test_a_line_is_a_path_from_the_bottom_left() -> None:
    assert paths(drawn(Line([0, 5, 10], [0.0, 10.0, 2.5], "ink"))) == ["M0 100L50 0L100 75"]


def test_steps_change_at_the_next_point() -> None:
    assert paths(drawn(Line([0, 5, 10], [0.0, 10.0, 2.5], "ink", steps=True))) == ["M0 100H50V0H100V75"]


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_a_gap(gap: float | None) -> None:
    values = [0.0, 1.0, gap, 2.0, 3.0]
    assert paths(drawn(Line([0, 1, 2, 3, 4], values, "ink"))) == ["M0 100L10 90M30 80L40 70"]
    assert paths(drawn(Line([0, 1, 2, 3, 4], values, "ink", bridges=True))) == ["M0 100L10 90L30 80L40 70"]
    assert len(list(drawn(Points([0, 1, 2, 3, 4], values, "ink")).iter("circle"))) == 4


@pytest.mark.parametrize("gap", [None, math.nan])
def test_a_point_between_gaps_is_visible(gap: float | None) -> None:
    (circle,) = drawn(Line([0, 1, 2], [gap, 5.0, gap], "ink")).iter("circle")
    assert (circle.attrib["cx"], circle.attrib["cy"]) == ("10%", "50%")


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(1e-3, 1e3)), min_size=1, max_size=9))
def test_points_are_at_their_places(pairs: list[tuple[float, float]]) -> None:
    axis = Axis(limits=(1e-3, 1e3), log=True)
    texts = [f"point {row}" for row in range(len(pairs))]
    root = drawn(Points([x for x, _ in pairs], [y for _, y in pairs], "ink", texts=texts), y=axis)
    for (x, y), circle, text in zip(pairs, root.iter("circle"), texts, strict=True):
        assert share(circle.attrib["cx"]) == pytest.approx(10 * x, abs=0.006)
        assert share(circle.attrib["cy"]) == pytest.approx(100 - 100 * (math.log10(y) + 3) / 6, abs=0.006)
        assert circle.findtext("title") == text


def test_bars_have_their_heights() -> None:
    figure = error_histogram("e", [0.0] * 8, [-0.5, 0.5, 0.6, 0.7, 1.5, 1.6, 2.5, 9.5])
    root = parsed(figure)
    (group,) = (each for each in root.iter("g") if each.get("class") == "bars")
    heights = [share(bar.attrib["height"]) for bar in group]
    counts = figure.marks[0].lengths
    assert heights == pytest.approx([100 * count / (1.04 * max(counts)) for count in counts], abs=0.01)
    assert all(
        share(bar.attrib["y"]) + share(bar.attrib["height"]) == pytest.approx(100, abs=0.02) for bar in group
    )
    assert sum(share(bar.attrib["width"]) for bar in group) < 100


def test_cells_are_squares_of_the_table_with_an_opacity() -> None:
    root = parsed(confusion_matrix(["a", "b"], [[3, 1], [0, 6]]))
    cells = [each for each in root.iter("rect") if each.find("title") is not None]
    places = {
        (round(share(cell.attrib["x"]) // 50), round(share(cell.attrib["y"]) // 50)): cell.attrib[
            "fill-opacity"
        ]
        for cell in cells
    }
    assert places == {(0, 0): "0.75", (1, 1): "1", (1, 0): "1"}
    assert all(share(cell.attrib["width"]) == 48 for cell in cells)


def test_cells_beyond_the_described_ones_are_merged_by_color() -> None:
    cells = [Cell(row, column, (row + column) / 100, "", "d") for row in range(50) for column in range(50)]
    names = list(map(str, range(50)))
    root = drawn(Cells(cells, "wrong"), x=Axis(names=names), y=Axis(names=names))
    described = [each for each in root.iter("rect") if each.find("title") is not None]
    merged = [each for each in root.iter("path") if "fill-opacity" in each.attrib]
    assert len(described) == 1000
    assert sum(each.attrib["d"].count("M") for each in merged) == 1500
    assert len(merged) <= 21
    faintest = min(float(each.attrib["fill-opacity"]) for each in described)
    assert all(float(each.attrib["fill-opacity"]) <= faintest + 0.025 for each in merged)


def test_an_interval_has_ends_and_a_center() -> None:
    root = drawn(Interval(2.0, 4.0, 6.0, 5.0, "ink"))
    (group,) = (each for each in root.iter("g") if each.get("class") == "interval")
    (line,) = group.findall("line")
    assert (line.attrib["x1"], line.attrib["x2"], line.attrib["y1"]) == ("20%", "60%", "50%")
    assert sorted(each.attrib["x"] for each in group.findall("svg")) == ["20%", "40%", "60%"]
    alone = drawn(Interval(4.0, 4.0, 4.0, 5.0, "ink"))
    (group,) = (each for each in alone.iter("g") if each.get("class") == "interval")
    assert len(group.findall("svg")) == 1


def test_rules_and_texts_are_at_their_places() -> None:
    root = drawn(Rule(2.0, "ink"), Texts([5.0], [10.0], ["top"]))
    assert [each.attrib["x1"] for each in root.iter("line") if "stroke-dasharray" in each.attrib] == ["20%"]
    assert [(each.attrib["x"], each.attrib["y"]) for each in root.iter("text") if each.text == "top"] == [
        ("50%", "0%")
    ]


def test_columns_are_centered_at_their_values_and_do_not_overlap() -> None:
    root = drawn(columns=Columns([1.0, 2.0, 3.0, 6.0], ["a", "b", "c", "d"]))
    (group,) = (each for each in root.iter("g") if each.get("class") == "columns")
    boxes = [(share(each.attrib["x"]), share(each.attrib["width"])) for each in group]
    assert [x + width / 2 for x, width in boxes] == pytest.approx([10, 20, 30, 60])
    assert all(x + width <= other + 1e-9 for (x, width), (other, _) in pairwise(boxes))
    assert [each.findtext("title") for each in group] == ["a", "b", "c", "d"]


def test_a_figure_has_a_description_and_no_title_of_its_own() -> None:
    (chart,) = (
        each for each in drawn(Line([0, 1], [0.0, 1.0], "ink")).iter("svg") if each.get("role") == "img"
    )
    assert chart.attrib["aria-label"] == "One sentence."
    assert chart.find("title") is None


def test_both_sets_of_labels_are_complete() -> None:
    root = drawn(Line([0, 10], [0.0, 10.0], "ink"), x=Axis("across", (0.0, 10.0)), y=Axis("up", (0.0, 10.0)))
    for name in ("narrow", "wide"):
        for side in "xy":
            (group,) = (each for each in root.iter("g") if each.get("class") == f"{side} {name}")
            labels = [(each.text, each.attrib["x" if side == "x" else "y"]) for each in group]
            assert labels == [
                (str(v), f"{10 * v if side == 'x' else 100 - 10 * v}%") for v in range(0, 11, 2)
            ]
    assert sum(each.text == "across" for each in root.iter("text")) == 2
    assert sum(each.text == "up" for each in root.iter("text")) == 2


def test_own_ticks_may_have_two_lines() -> None:
    root = drawn(
        x=Axis(limits=(0.0, 1.0), ticks=[Tick(0.0, "low\nname")]), y=Axis(limits=(0.0, 1.0), ticks=())
    )
    assert [each.text for each in root.iter("tspan")] == ["low", "name"] * 2


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=30))
def test_any_name_is_text(name: str) -> None:
    root = parsed(confusion_matrix([name, "b"], [[1, 1], [0, 1]]))
    titles = [each.findtext("title") or "" for each in root.iter("rect") if each.find("title") is not None]
    assert any(title.startswith(f"true {name or '(empty)'}\n") for title in titles)
    assert not re.search(r"<script", ElementTree.tostring(root, encoding="unicode"))
