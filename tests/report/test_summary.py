from __future__ import annotations

from pathlib import Path

import pytest
from scipy.stats import binomtest
from tests.support import run_folders, sample_runs

from descend.report.run_files import read
from descend.report.summary import summarize, wilson_interval


@pytest.mark.parametrize(("right", "rows"), [(0, 1), (1, 1), (442, 450), (3, 7), (50_000, 100_000), (0, 30)])
def test_wilson_is_scipys(right: int, rows: int) -> None:
    interval = binomtest(right, rows).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right, rows) == pytest.approx((interval.low, interval.high), abs=1e-7)


def told(name: str, folder: Path) -> str:
    return summarize(read(run_folders.save(sample_runs.RUNS[name](), folder)))


def test_a_classification(tmp_path: Path) -> None:
    words = told("wine", tmp_path)
    assert "A network of 5,443 parameters learned from 106 rows" in words
    assert "tell 3 classes apart (barolo, grignolino and barbera) from 15 columns" in words
    assert "epoch 30, chosen by the validation rows" in words
    assert "the validation rows showed no more progress" in words
    assert "On 45 rows that it had never seen, 93.3\N{NO-BREAK SPACE}% of its answers are right" in words
    assert "always answering the most frequent class would give 40.0\N{NO-BREAK SPACE}%" in words


def test_a_regression(tmp_path: Path) -> None:
    words = told("diabetes", tmp_path)
    assert "predict progression from 10 columns" in words
    assert "accounts for 36\N{NO-BREAK SPACE}% of the variance, and is off by 45.2 on average" in words


def test_several_targets_have_no_common_unit(tmp_path: Path) -> None:
    words = told("linnerud", tmp_path)
    assert "predict Weight, Waist and Pulse" in words
    assert "off by" not in words


def test_pictures(tmp_path: Path) -> None:
    assert "from grey images of 8 \N{MULTIPLICATION SIGN} 8 pixels" in told("digits", tmp_path)


def test_no_validation_part(tmp_path: Path) -> None:
    words = told("without_validation", tmp_path)
    assert "No rows were set aside for validation, so the last weights were kept." in words
    assert "epoch limit" in words


def test_a_failure(tmp_path: Path) -> None:
    words = told("failed", tmp_path)
    assert "because the numbers diverged" in words
    assert "right" not in words


def test_worse_than_the_mean(tmp_path: Path) -> None:
    files = sample_runs.diabetes()
    files["metrics.json"]["test"]["r2"] = -0.2
    assert "no better than always answering the mean (R² -0.2)" in summarize(
        read(run_folders.save(files, tmp_path))
    )


def test_an_interval_needs_the_counts_of_the_same_rows(tmp_path: Path) -> None:
    files = sample_runs.wine()
    files["metrics.json"]["test"]["accuracy"] = 0.5
    assert "interval" not in summarize(read(run_folders.save(files, tmp_path)))


def test_nothing_held_out(tmp_path: Path) -> None:
    files = sample_runs.without_validation()
    del files["metrics.json"]["test"], files["evaluation.json"]
    assert "nothing here tells how well it does on new ones" in summarize(
        read(run_folders.save(files, tmp_path))
    )
