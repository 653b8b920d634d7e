from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics
from tests.support import run_folders, sample_runs

from descend.report.results import learning_section, mistakes_section, results_section
from descend.report.run_files import read


def cells(markup: str, caption: str) -> list[list[str]]:
    """The cells of the table with this caption, as text."""
    table = next(match for match in re.findall(r"<table>.*?</table>", markup, re.DOTALL) if caption in match)
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)[1:]
    return [
        [
            unescape(re.sub("<[^>]+>", "", cell))
            for cell in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row, re.DOTALL)
        ]
        for row in rows
    ]


def share(written: str) -> float:
    return float(written.replace("\N{NO-BREAK SPACE}%", "")) / 100


def test_scores_by_class_equal_scikit_learns(tmp_path: Path) -> None:
    files = sample_runs.digits()
    counts = np.array(files["evaluation.json"]["confusion"])
    true = np.repeat(np.repeat(np.arange(10), 10), counts.ravel())
    predicted = np.repeat(np.tile(np.arange(10), 10), counts.ravel())
    expected = np.array(metrics.precision_recall_fscore_support(true, predicted)).T
    markup = results_section(read(run_folders.save(files, tmp_path)))
    rows = cells(markup, "Scores by class")
    assert [row[0] for row in rows] == list("0123456789")
    assert [int(row[1]) for row in rows] == expected[:, 3].tolist()
    assert np.array([[share(cell) for cell in row[2:]] for row in rows]) == pytest.approx(
        expected[:, :3], abs=5.1e-4
    )


def test_a_class_without_rows_and_predictions_has_no_score(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["evaluation.json"]["confusion"] = [[5, 1, 0], [2, 4, 0], [0, 0, 0]]
    markup = results_section(read(run_folders.save(files, tmp_path)))
    assert cells(markup, "Scores by class")[2] == ["barbera", "0", *["\N{EN DASH}"] * 3]


@pytest.mark.slow
def test_many_classes_are_listed_by_ascending_f1(tmp_path: Path) -> None:
    markup = results_section(read(run_folders.save(sample_runs.large(), tmp_path)))
    scores = [share(row[-1]) for row in cells(markup, "Scores by class")]
    assert len(scores) == 100
    assert scores == sorted(scores)


def test_the_most_frequent_mistakes_come_first(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["evaluation.json"]["confusion"] = [[5, 1, 0], [2, 4, 0], [0, 3, 7]]
    markup = results_section(read(run_folders.save(files, tmp_path)))
    assert cells(markup, "Most frequent mistakes")[:2] == [
        ["barbera", "grignolino", "3", "30.0\N{NO-BREAK SPACE}%"],
        ["grignolino", "barolo", "2", "33.3\N{NO-BREAK SPACE}%"],
    ]


def test_large_confusion_matrices_are_not_drawn(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["evaluation.json"] |= {"classes": list(range(201)), "confusion": np.eye(201, dtype=int).tolist()}
    markup = results_section(read(run_folders.save(files, tmp_path)))
    assert 'class="plot"' not in markup
    assert "201 classes is too large" in markup


def test_scores_by_target_equal_scikit_learns(tmp_path: Path) -> None:
    files = sample_runs.linnerud()
    markup = results_section(read(run_folders.save(files, tmp_path)))
    assert markup.count('class="plot"') == 3
    for name, r2, mae, rmse in cells(markup, "Scores by target"):
        pair = files["evaluation.json"]["scatter"][name]
        expected = [
            metrics.r2_score(pair["true"], pair["predicted"]),
            metrics.mean_absolute_error(pair["true"], pair["predicted"]),
            metrics.root_mean_squared_error(pair["true"], pair["predicted"]),
        ]
        assert [float(value.replace(",", "")) for value in (r2, mae, rmse)] == pytest.approx(
            expected, rel=6e-4
        )


def test_points_that_are_not_finite_are_omitted(tmp_path: Path) -> None:
    files = sample_runs.diabetes()
    files["evaluation.json"]["scatter"]["progression"]["predicted"][3] = float("nan")
    assert results_section(read(run_folders.save(files, tmp_path))).count("<circle") == 110


def test_only_embedded_images_are_shown(tmp_path: Path) -> None:
    files = sample_runs.digits()
    files["evaluation.json"]["worst"][0]["image"] = "https://example.org/a.png"
    files["evaluation.json"]["worst"][1]["image"] = "data:image/svg+xml;base64,AAAA"
    files["evaluation.json"]["worst"][2]["image"] = 'data:image/png;base64,AA"onerror="x'
    markup = mistakes_section(read(run_folders.save(files, tmp_path)))
    assert markup.count("<img") == 9
    assert "example.org" not in markup
    assert "onerror" not in markup


def test_the_worst_rows_keep_their_order_and_values(tmp_path: Path) -> None:
    markup = mistakes_section(read(run_folders.save(sample_runs.wine(), tmp_path)))
    rows = cells(markup, "Worst mistakes")
    assert [row[0] for row in rows] == ["83", "61", "121", "134", "95", "21"]
    assert rows[0][1:6] == ["grignolino", "barolo", "99.0\N{NO-BREAK SPACE}%", "4.6", "13.05"]


def test_a_long_history_is_sampled_and_includes_the_kept_epoch(tmp_path: Path) -> None:
    run = read(run_folders.save(sample_runs.large(), tmp_path))
    markup = learning_section(run)
    rows = cells(markup, "Learning curves by epoch")
    assert 200 <= len(rows) <= 203
    assert (rows[0][0], rows[-1][0]) == ("1", "5,000")
    assert [row[0] for row in rows if row[-1] == "kept"] == [f"{run.best_epoch:,}"]


def test_the_five_learning_curves(tmp_path: Path) -> None:
    markup = learning_section(read(run_folders.save(sample_runs.wine(), tmp_path)))
    keys = re.findall(r'id="plot-(\w+)"', markup)
    assert keys == ["loss", "metric", "rate", "gradient", "time"]


def test_an_undefined_metric_is_a_dash_with_an_explanation(tmp_path: Path) -> None:
    files = sample_runs.wine()
    markup = results_section(read(run_folders.save(files, tmp_path / "defined")))
    assert "undefined on these rows" not in markup
    files["metrics.json"]["test"]["balanced_accuracy"] = None
    markup = results_section(read(run_folders.save(files, tmp_path / "undefined")))
    assert "marks a metric that is undefined on these rows" in markup
    row = next(row for row in cells(markup, "Scores by part") if row[0] == "balanced accuracy")
    assert row[-1] == "\N{EN DASH}"


def test_the_units_of_the_loss_of_a_regression_are_stated(tmp_path: Path) -> None:
    files = sample_runs.RUNS["diabetes"]()
    for name, stated in (("standard", True), ("raw", False)):
        files["schema.json"] |= {"target_mean": [152.0 * stated], "target_scale": [77.0 if stated else 1.0]}
        folder = run_folders.save(files, tmp_path / name)
        results = results_section(read(folder))
        curves = learning_section(read(folder))
        assert ("The loss is that of standardized targets" in results) == stated
        assert ("Losses are those of standardized targets" in curves) == stated


def test_years_and_labels_are_shown_as_the_data_has_them(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["evaluation.json"]["worst"] = [
        {"row": 1, "true": 1986.0000001, "predicted": 2008.64, "loss": 0.5, "values": {"code": "007", "made": 2023.0}},
        {"row": 2, "true": 2002.0, "predicted": 1999.6, "loss": 0.4, "values": {"code": "a b", "made": 2021.0}},
    ]  # fmt: skip
    rows = cells(mistakes_section(read(run_folders.save(files, tmp_path / "years"))), "Worst mistakes")
    assert rows[0] == ["1", "1986", "2008.64", "0.5", "007", "2023"]
    assert rows[1] == ["2", "2002", "1999.6", "0.4", "a b", "2021"]
    space = "\N{NO-BREAK SPACE}"
    for name, shown in ((True, "True"), (3, "3"), ("007", "007"), ("a b", "a b"), (" no", f'"{space}no"')):
        files["evaluation.json"]["classes"][0] = name
        markup = results_section(read(run_folders.save(files, tmp_path / str(name))))
        assert cells(markup, "Scores by class")[0][0] == shown
