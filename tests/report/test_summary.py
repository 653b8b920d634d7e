from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binomtest
from tests.support import run_folders, sample_runs

from descend.report.run_files import read
from descend.report.summary import summarize, wilson_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (442, 450), (3, 7), (50_000, 100_000), (0, 30)])
def test_wilson_interval_equals_scipys(successes: int, n: int) -> None:
    interval = binomtest(successes, n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, n) == pytest.approx((interval.low, interval.high), abs=1e-7)


def summary_of(name: str, folder: Path) -> str:
    return summarize(read(run_folders.save(sample_runs.RUNS[name](), folder)))


def test_a_classification(tmp_path: Path) -> None:
    text = summary_of("wine", tmp_path)
    assert "A network with 5,443 parameters was trained on 106 rows" in text
    assert "distinguish 3 classes (barolo, grignolino and barbera) from 15 columns" in text
    assert "The weights of epoch 30 were kept, the best on the validation rows" in text
    assert "it stopped when the validation score no longer improved" in text
    assert "On the 45 test rows, its accuracy is 93.3\N{NO-BREAK SPACE}%" in text
    assert "always predicting the most frequent class would reach 40.0\N{NO-BREAK SPACE}%" in text


def test_a_regression(tmp_path: Path) -> None:
    text = summary_of("diabetes", tmp_path)
    assert "predict progression from 10 columns" in text
    assert "explains 36\N{NO-BREAK SPACE}% of the variance, with a mean absolute error of 45.2" in text


def test_several_targets_have_no_common_unit(tmp_path: Path) -> None:
    text = summary_of("linnerud", tmp_path)
    assert "predict Weight, Waist and Pulse" in text
    assert "mean absolute error" not in text


def test_images(tmp_path: Path) -> None:
    assert "from grayscale images of 8 \N{MULTIPLICATION SIGN} 8 pixels" in summary_of("digits", tmp_path)


def test_no_validation_part(tmp_path: Path) -> None:
    text = summary_of("without_validation", tmp_path)
    assert "There are no validation rows, so the last weights were kept." in text
    assert "epoch limit" in text


def test_a_failure(tmp_path: Path) -> None:
    text = summary_of("failed", tmp_path)
    assert "because it diverged" in text
    assert "accuracy" not in text


def test_worse_than_the_mean(tmp_path: Path) -> None:
    files = sample_runs.diabetes()
    files["metrics.json"]["test"]["r2"] = -0.2
    assert "no better than always predicting the mean (R² -0.2)" in summarize(
        read(run_folders.save(files, tmp_path))
    )


def test_the_interval_requires_matching_counts(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["metrics.json"]["test"]["accuracy"] = 0.5
    assert "interval" not in summarize(read(run_folders.save(files, tmp_path)))


def test_no_held_out_rows(tmp_path: Path) -> None:
    files = sample_runs.without_validation()
    del files["metrics.json"]["test"], files["evaluation.json"]
    assert "the performance on new rows is unknown" in summarize(read(run_folders.save(files, tmp_path)))
