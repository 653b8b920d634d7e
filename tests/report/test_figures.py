from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import run_folders, sample_runs

from descend.report.figures import (
    confusion_matrix,
    error_histogram,
    predicted_against_true,
    score_axis,
    value_texts,
)
from descend.report.marks import Bars, Cells, Figure, Line, Points
from descend.report.page import render
from descend.report.run_files import read


def cells_of(figure: Figure) -> tuple[Cells, Cells]:
    right, wrong = figure.marks
    assert isinstance(right, Cells)
    assert isinstance(wrong, Cells)
    return right, wrong


def points_of(figure: Figure) -> Points:
    assert isinstance(figure.marks[1], Points)
    return figure.marks[1]


def bars_of(figure: Figure) -> Bars:
    assert isinstance(figure.marks[0], Bars)
    return figure.marks[0]


@pytest.mark.parametrize("name", sample_runs.RUNS)
def test_all_colors_are_variables_of_the_page(name: str, tmp_path: Path) -> None:
    style = Path(str(run_folders.__file__)).parents[2] / "src/descend/report/page.css"
    light, dark = style.read_text(encoding="utf-8").split("@media screen and (prefers-color-scheme: dark)", 1)
    names = [set(re.findall(r"^\s+--([a-z-]+[0-9]?):", each, re.MULTILINE)) for each in (light, dark)]
    page = render(read(run_folders.save(sample_runs.RUNS[name](), tmp_path)))
    used = set(re.findall(r'style="(?:fill|stroke)[^"]*var\(--([a-z0-9-]+)\)', page))
    assert {"training", "neutral"} & used
    assert used <= names[0] & names[1]


def test_a_confusion_matrix_shows_shares_of_the_true_class() -> None:
    right, wrong = cells_of(confusion_matrix(["a", "b"], [[3, 1], [0, 6]]))
    assert [(cell.row, cell.column, cell.strength, cell.text) for cell in right.cells] == [
        (0, 0, 0.75, "3"),
        (1, 1, 1.0, "6"),
    ]
    (mistake,) = wrong.cells
    # The strongest color is that of the most frequent mistake.
    assert (mistake.row, mistake.column, mistake.strength, mistake.text) == (0, 1, 1.0, "1")
    assert mistake.description == "true a\npredicted b\n1 rows, 25.0\N{NO-BREAK SPACE}% of the class"


def test_mistakes_of_less_than_a_tenth_are_paler() -> None:
    _, wrong = cells_of(confusion_matrix(["a", "b"], [[95, 5], [0, 6]]))
    assert [cell.strength for cell in wrong.cells] == [0.5]


def test_an_empty_class_does_not_divide_by_zero() -> None:
    right, _ = cells_of(confusion_matrix(["a", "b"], [[0, 0], [0, 6]]))
    assert right.cells[0].strength == 0


def test_classes_of_equal_name_are_numbered() -> None:
    labels = confusion_matrix(["1", "1", "<1>"], np.eye(3).tolist()).x.names
    assert labels == ["1", "1 (2)", "<1>"]


@pytest.mark.parametrize("size", [12, 13])
def test_counts_are_printed_for_up_to_12_classes(size: int) -> None:
    right, _ = cells_of(confusion_matrix(list(map(str, range(size))), np.eye(size).tolist()))
    assert (right.cells[0].text == "1") == (size <= 12)


def test_predicted_against_true_has_equal_axes_that_contain_all_points() -> None:
    figure = predicted_against_true("t", "t", [1.0, 5.0], [-3.0, 2.0])
    assert figure.x.limits is not None
    assert figure.x.limits == figure.y.limits
    assert figure.x.limits[0] < -3
    assert figure.x.limits[1] > 5
    assert isinstance(figure.marks[0], Line)
    assert figure.marks[0].x == figure.marks[0].y


def test_predicted_against_true_limits_the_number_of_points() -> None:
    true = [float(row) for row in range(5001)]
    figure = predicted_against_true("t", "t", true, true, 1000)
    assert 800 < len(points_of(figure).x) <= 1000
    assert figure.note == f"{len(points_of(figure).x)} of 5,001 points are shown."


@given(st.integers(0, 2**32 - 1), st.integers(1, 400), st.integers(10, 60))
def test_predicted_against_true_keeps_the_extremes(seed: int, rows: int, limit: int) -> None:
    true, predicted = np.random.default_rng(seed).standard_normal((2, rows))
    points = points_of(predicted_against_true("t", "t", true.tolist(), predicted.tolist(), limit))
    shown = np.array([points.x, points.y], dtype=float)
    assert len(points.x) == len(points.texts) <= max(limit, 12)
    for of in (lambda pair: pair[0], lambda pair: pair[1], lambda pair: pair[1] - pair[0]):
        every = of((true, predicted))
        assert {every.min(), every.max()} <= set(of(shown).tolist())


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9, 1.7e308])
def test_predicted_against_true_of_one_value_has_a_range(value: float) -> None:
    limits = predicted_against_true("t", "t", [value], [value]).x.limits
    assert limits is not None
    assert limits[0] < value <= limits[1]


def test_error_histogram_equals_numpys() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.standard_normal(500), rng.standard_normal(500)
    bars = bars_of(error_histogram("e", true.tolist(), predicted.tolist()))
    edges = np.append(np.array(bars.at) - bars.width / 2, bars.at[-1] + bars.width / 2)
    counts, _ = np.histogram(predicted - true, edges)
    assert bars.lengths == counts.tolist()
    assert np.abs(edges / bars.width - np.round(edges / bars.width)).max() < 1e-3  # an edge is at 0
    iqr = np.subtract(*np.percentile(predicted - true, [75, 25]))
    assert bars.width == pytest.approx(2 * iqr / 500 ** (1 / 3), rel=0.02)
    assert all(text.endswith(f"{count:,} rows") for text, count in zip(bars.texts, counts, strict=True))


@pytest.mark.parametrize("off", [[0.0], [2.0, 2.0], [0.0, 0.0, 0.0, 1e6], [-1e-12, 1e12]])
def test_error_histogram_counts_every_row(off: list[float]) -> None:
    bars = bars_of(error_histogram("e", [0.0] * len(off), off))
    assert sum(bars.lengths) == len(off)
    assert len(bars.lengths) <= 62


def test_points_that_are_close_together_for_their_size_have_different_descriptions() -> None:
    true = [1.7e9 + step for step in range(100)]
    points = points_of(predicted_against_true("t", "t", true, [value + 0.5 for value in true]))
    assert points.texts[3] == "true 1700000003\npredicted 1700000003.5"
    assert len(set(points.texts)) == 100


def test_descriptions_of_years_have_no_separators() -> None:
    points = points_of(predicted_against_true("t", "t", [1986.0, 2023.0], [1990.0, 2020.0]))
    assert points.texts == ["true 1986\npredicted 1990", "true 2023\npredicted 2020"]


def test_values_that_differ_on_the_screen_have_different_texts() -> None:
    values = [0.1 + 1e-7 * step for step in range(300)]
    assert len(set(value_texts(values))) == 300


def test_a_number_added_to_a_repeated_name_is_not_that_of_another_name() -> None:
    assert confusion_matrix(["a", "a", "a (2)"], [[1, 0, 0]] * 3).x.names == ["a", "a (3)", "a (2)"]


@pytest.mark.parametrize(
    ("name", "values", "log"),
    [("loss", [1.0, 31.0], True), ("loss", [1.0, 30.0], False), ("loss", [0.0, 31.0], False), ("loss", [], False),
     ("accuracy", [0.01, 0.9], False)],
)  # fmt: skip
def test_the_axis_of_a_metric(name: str, values: list[float], log: bool) -> None:
    axis = score_axis(name, "t", values, may_be_log=True)
    assert axis.log == log
    assert axis.title == ("t (log scale)" if log else "t")
    assert axis.style == ("share" if name == "accuracy" else "number")
    assert not score_axis(name, "t", values).log
