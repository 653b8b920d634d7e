"""Tests that rows which occur in several parts are reported, and that coincidences of few values are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from descend.data import DataSettings, prepare, read
from descend.data.overlap import overlap_notes
from descend.runs.plan import plan_run

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(120, 3)), RANDOM.integers(0, 2, 120)
NEW, LABELS = RANDOM.normal(size=(60, 3)), RANDOM.integers(0, 2, 60)


def notes(**parts: Any) -> tuple[str, ...]:
    source = read(parts)
    return overlap_notes(prepare(source), source)


def test_the_training_data_as_test_data() -> None:
    """Some of the training rows are held out for validation."""
    (note,) = notes(train=(X, Y), test=(X, Y))
    assert "the test data have the same rows as the training and validation data: 120 of 120" in note


def test_every_pair_of_parts_is_compared() -> None:
    found = notes(train=(X, Y), validation=(X[:40], Y[:40]), test=(X[20:50], Y[20:50]))
    assert "the validation data have the same rows as the training data: 40 of 40" in found[0]
    assert "the test data have the same rows as the training and validation data: 30 of 30" in found[1]
    apart = notes(train=(X, Y), validation=(NEW, LABELS), test=(NEW[:30], LABELS[:30]))
    assert "the test data have the same rows as the validation data: 30 of 30" in apart[0]


def test_some_rows_suffice_and_a_few_do_not() -> None:
    some = (np.vstack([NEW, X[:10]]), np.concatenate([LABELS, Y[:10]]))
    few = (np.vstack([NEW, X[:2]]), np.concatenate([LABELS, Y[:2]]))
    assert "10 of 70" in notes(train=(X, Y), test=some)[0]
    assert notes(train=(X, Y), test=few) == ()


def test_other_rows_and_other_targets_are_no_overlap() -> None:
    assert notes(train=(X, Y), test=(NEW, LABELS)) == ()
    assert notes(train=(X, Y), test=(X, 1 - Y)) == ()


def test_tables_of_few_distinct_rows_coincide_by_chance() -> None:
    few = RANDOM.integers(0, 2, (300, 3)).astype(float)
    labels = few.sum(1) > 1
    assert notes(train=(few[:200], labels[:200]), test=(few[200:], labels[200:])) == ()


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_images_and_tensors(kind: Any) -> None:
    pixels = RANDOM.integers(0, 255, (30, 5, 5, 3)).astype(kind)
    assert len(notes(train=(pixels, Y[:30]), test=(pixels[:9], Y[:9]))) == 1


def test_a_run_reports_the_test_data_that_are_its_training_data() -> None:
    frame = pl.DataFrame(X, schema=["a", "b", "c"]).with_columns(y=pl.Series(Y))
    plan = plan_run(frame, {"stop": {"max_epochs": 1}}, target="y", test=frame)
    assert sum("same rows" in note for note in plan.prepared.notes) == 1
    other = plan_run(frame, {"stop": {"max_epochs": 1}}, target="y")
    assert not any("same rows" in note for note in other.prepared.notes)


def significant(values: Any, digits: int) -> Any:
    return np.vectorize(lambda value: float(f"{value:.{digits}g}"))(values)


class TestTheSameRowsInOtherFiles:
    @pytest.mark.parametrize("offset", [0.0, 1e4])
    def test_single_precision(self, offset: float) -> None:
        x = (X + offset).astype(np.float64)
        assert "120 of 120" in notes(train=(x, Y), test=(x.astype(np.float32).astype(np.float64), Y))[0]
        assert "digits" not in notes(train=(x, Y), test=(x.astype(np.float32), Y))[0]

    def test_a_text_file_and_a_parquet_file(self, tmp_path: Path) -> None:
        frame = pl.DataFrame(X, schema=["a", "b", "c"]).with_columns(y=pl.Series(Y))
        frame.write_csv(tmp_path / "a.csv")
        frame.with_columns(pl.col("a", "b", "c").cast(pl.Float32)).write_parquet(tmp_path / "a.parquet")
        parts = {"train": str(tmp_path / "a.csv"), "test": str(tmp_path / "a.parquet")}
        source = read(parts, target="y")
        assert "120 of 120" in overlap_notes(prepare(source), source)[0]

    @pytest.mark.parametrize("decimals", [1, 2, 3, 4, 6])
    @pytest.mark.parametrize("part", ["train", "test"])
    def test_rounded_to_decimals(self, decimals: int, part: str) -> None:
        rounded = (X.round(decimals), (2 * X[:, 0]).round(decimals))
        parts = {"train": (X, 2 * X[:, 0]), "test": (X, 2 * X[:, 0]), part: rounded}
        (note,) = notes(**parts)
        assert "120 of 120" in note
        assert "after rounding to the same number of digits" in note

    @pytest.mark.parametrize("digits", [3, 4, 5])
    def test_rounded_to_significant_digits(self, digits: int) -> None:
        scaled = X * [1.0, 1e5, 1e-4]
        assert "120 of 120" in notes(train=(scaled, Y), test=(significant(scaled, digits), Y))[0]

    @pytest.mark.parametrize("scale", ["pca", "zca", "minmax"])
    def test_any_scale(self, scale: str) -> None:
        source = read({"train": (X, Y), "test": (X.round(3), Y)})
        prepared = prepare(source, DataSettings(scale=scale))
        assert "120 of 120" in overlap_notes(prepared, source)[0]

    def test_only_some_of_the_rows(self) -> None:
        mixed = np.vstack([NEW, X[:20]]).round(3)
        found = notes(train=(X, Y), test=(mixed, np.concatenate([LABELS, Y[:20]])))
        assert "20 of 80" in found[0]


class TestCoincidences:
    """Rows that are near to each other by chance."""

    @pytest.mark.parametrize("columns", [1, 2, 3])
    @pytest.mark.parametrize("decimals", [0, 1, 2, 3])
    @pytest.mark.parametrize("part", ["train", "test"])
    def test_new_rows_of_fewer_digits(self, columns: int, decimals: int, part: str) -> None:
        random = np.random.default_rng(1)
        pairs = {}
        for name, count in (("train", 3000), ("test", 1000)):
            x = random.normal(size=(count, columns))
            pairs[name] = (x.round(decimals) if name == part else x, x[:, 0] > 0)
        assert notes(**pairs) == ()

    def test_new_rows_of_few_distinct_values(self) -> None:
        few = np.random.default_rng(2).integers(0, 10, (4000, 4)).astype(float)
        target = few.sum(1) > 18
        assert notes(train=(few[:3000], target[:3000]), test=(few[3000:], target[3000:])) == ()

    def test_rows_that_differ_by_more_than_the_rounding(self) -> None:
        assert notes(train=(X, Y), test=((X + 0.002).round(3), Y)) == ()
        assert notes(train=(X, Y), test=(X * (1 + 1e-4), Y)) == ()
