"""Tests that rows which occur in several parts are reported, and that coincidences of few values are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from descend.data import prepare, read
from descend.data.overlap import overlap_notes
from descend.runs.plan import plan_run

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(120, 3)), RANDOM.integers(0, 2, 120)
NEW, LABELS = RANDOM.normal(size=(60, 3)), RANDOM.integers(0, 2, 60)


def notes(**parts: Any) -> tuple[str, ...]:
    return overlap_notes(prepare(read(parts)))


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
