from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from tests.support import run_folders, sample_runs

from descend.report.figures import (
    Figure,
    confusion_matrix,
    error_histogram,
    plotly_text,
    predicted_against_true,
)
from descend.report.results import learning_section, results_section
from descend.report.run_files import read


def drawable(value: Any) -> Any:
    """A specification with CSS variables replaced by a plain colour."""
    return json.loads(re.sub(r'"--[a-z-]+"', '"#123456"', json.dumps(value)))


def figures_of(name: str, folder: Path) -> list[Figure]:
    run = read(run_folders.save(sample_runs.RUNS[name](), folder))
    return [*learning_section(run)[1], *results_section(run)[1]]


@pytest.mark.slow
@pytest.mark.parametrize("name", sample_runs.RUNS)
def test_plotly_accepts_every_figure(name: str, tmp_path: Path) -> None:
    for figure in figures_of(name, tmp_path):
        go.Figure(drawable(figure.data), drawable(figure.layout))  # raises for unknown properties


def test_plotly_refuses_unknown_properties() -> None:
    with pytest.raises(ValueError, match="Invalid property"):
        go.Figure([{"type": "scatter", "colour": 1}])


@pytest.mark.parametrize("name", sample_runs.RUNS)
def test_all_colours_are_variables_of_the_page(name: str, tmp_path: Path) -> None:
    style = Path(str(run_folders.__file__)).parents[2] / "src/descend/report/page.css"
    known = set(re.findall(r"^\s+(--[a-z-]+):", style.read_text(encoding="utf-8"), re.MULTILINE))
    used = set()

    def walk(value: Any, key: str = "") -> None:
        if isinstance(value, dict):
            for inner in value:
                walk(value[inner], inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner, key)
        elif isinstance(value, str) and re.search(r"color(scale)?$", key) and value.startswith("--"):
            used.add(value)

    for figure in figures_of(name, tmp_path):
        walk([figure.data, figure.layout])
    assert used
    assert used <= known


def test_a_confusion_matrix_shows_shares_of_the_true_class() -> None:
    right, wrong = confusion_matrix(["a", "b"], [[3, 1], [0, 6]]).data
    assert right["z"] == [[0.75, None], [None, 1.0]]
    assert wrong["z"] == [[None, 0.25], [None, None]]
    assert right["customdata"] == [[3, 1], [0, 6]]
    assert (right["text"], wrong["text"]) == ([["3", ""], ["", "6"]], [["", "1"], ["", ""]])


def test_an_empty_class_does_not_divide_by_zero() -> None:
    right, _ = confusion_matrix(["a", "b"], [[0, 0], [0, 6]]).data
    assert right["z"][0][0] == 0


def test_classes_of_equal_name_are_numbered() -> None:
    labels = confusion_matrix(["1", "1", "<1>"], np.eye(3).tolist()).data[0]["x"]
    assert labels == ["1", "1 (2)", "&lt;1&gt;"]


def test_long_names_are_shortened_only_on_the_axis() -> None:
    name = "a" * 40 + "&z"
    figure = confusion_matrix([name, "b"], [[1, 0], [0, 1]])
    assert figure.layout["xaxis"]["labelalias"] == {"a" * 40 + "&amp;z": "aaaaaaaaa…aaaaaa&amp;z"}


@pytest.mark.parametrize("size", [12, 13])
def test_counts_are_printed_for_up_to_12_classes(size: int) -> None:
    assert (
        "texttemplate" in confusion_matrix(list(map(str, range(size))), np.eye(size).tolist()).data[0]
    ) == (size <= 12)


def test_predicted_against_true_has_equal_axes_that_contain_all_points() -> None:
    figure = predicted_against_true("t", "t", [1.0, 5.0], [-3.0, 2.0])
    ranges = figure.layout["xaxis"]["range"], figure.layout["yaxis"]["range"]
    assert ranges[0] == ranges[1]
    assert ranges[0][0] < -3
    assert ranges[0][1] > 5


def test_predicted_against_true_limits_the_number_of_points() -> None:
    figure = predicted_against_true("t", "t", list(range(5001)), list(range(5001)), 2000)
    assert len(figure.data[1]["x"]) == 1667
    assert figure.note == "1,667 of 5,001 points are shown."


@pytest.mark.parametrize("value", [0.0, 3.0, -1e9])
def test_predicted_against_true_of_one_value_has_a_range(value: float) -> None:
    low, high = predicted_against_true("t", "t", [value], [value]).layout["xaxis"]["range"]
    assert low < value < high


def test_error_histogram_equals_numpys() -> None:
    rng = np.random.default_rng(0)
    true, predicted = rng.standard_normal(500), rng.standard_normal(500)
    bars = error_histogram("e", true.tolist(), predicted.tolist()).data[0]
    width = bars["width"]
    edges = np.append(np.array(bars["x"]) - width / 2, bars["x"][-1] + width / 2)
    counts, _ = np.histogram(predicted - true, edges)
    assert bars["y"] == counts.tolist()
    assert np.abs(edges / width - np.round(edges / width)).max() < 1e-3  # an edge is at 0
    iqr = np.subtract(*np.percentile(predicted - true, [75, 25]))
    assert width == pytest.approx(2 * iqr / 500 ** (1 / 3), rel=0.02)


@pytest.mark.parametrize("off", [[0.0], [2.0, 2.0], [0.0, 0.0, 0.0, 1e6], [-1e-12, 1e12]])
def test_error_histogram_counts_every_row(off: list[float]) -> None:
    bars = error_histogram("e", [0.0] * len(off), off).data[0]
    assert sum(bars["y"]) == len(off)
    assert len(bars["y"]) <= 62


def test_plotly_text_is_one_escaped_line() -> None:
    assert plotly_text("a\n<br>b\u2028c") == "a &lt;br&gt;b c"


def test_points_that_are_close_together_for_their_size_stay_apart() -> None:
    true = [1.7e9 + step for step in range(100)]
    points = predicted_against_true("t", "t", true, [value + 0.5 for value in true]).data[1]
    assert points["x"] == true
    assert points["y"] == [value + 0.5 for value in true]


def test_hover_texts_of_years_have_no_separators() -> None:
    points = predicted_against_true("t", "t", [1986.0, 2023.0], [1990.0, 2020.0]).data[1]
    assert "%{x:.7~g}" in points["hovertemplate"]


@pytest.mark.parametrize("rows", [3, 5])
def test_an_axis_of_few_rows_has_only_integers(rows: int) -> None:
    axis = error_histogram("e", [0.0] * rows, [1.0] * rows).layout["yaxis"]
    assert (axis["tickmode"], axis["dtick"]) == ("linear", 1)
