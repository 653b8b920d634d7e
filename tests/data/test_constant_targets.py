"""Tests of targets that are constant in the training rows only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from descend.data import prepare, read
from descend.errors import DataError

X = np.random.default_rng(0).normal(size=(60, 3))
CONSTANT = np.full(30, 0.5)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (np.zeros(30, dtype=int), np.arange(30) % 2, "every training row has the class 0"),
        (["a"] * 30, ["a", "b", "c"] * 10, "every training row has the class 'a'"),
        (CONSTANT, X[30:, 0], "the target 'y' is 0.5 in every training row"),
        (np.column_stack([X[:30, 0], CONSTANT]), X[30:, :2], "the target 'y1' is 0.5 in every training row"),
    ],
)
def test_they_are_refused(train: Any, test: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        prepare(read({"train": (X[:30], train), "test": (X[30:], test)}))
    assert "data.split" in str(caught.value)


def test_other_targets_are_not() -> None:
    target = np.r_[1.0, CONSTANT[1:]] + np.r_[0.0, X[1:30, 0]]
    assert (
        prepare(read({"train": (X[:30], target), "test": (X[30:], np.full(30, 0.5))})).schema.task
        == "regression"
    )
