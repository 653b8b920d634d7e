"""Weights of parts and classes that are all 0 are answered before training."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

import descend
from descend.data.part_weights import check_part_weights
from descend.data.preparation import encode_source, prepare
from descend.data.sources import read
from descend.errors import DataError

ROWS = {"train": np.arange(6), "validation": np.arange(6, 8), "test": np.arange(8, 10)}
CODES = np.array([0, 0, 1, 1, 2, 2, 0, 1, 0, 1])


def weights(*zero: int) -> np.ndarray:
    own = np.ones(10)
    own[list(zero)] = 0.0
    return own


@pytest.mark.parametrize(
    ("zero", "message"),
    [
        ((6, 7), "the weights of all 2 validation rows are 0, so no epoch can be chosen by them"),
        ((8, 9), "the weights of all 2 test rows are 0, so nothing can be measured on them"),
        (range(6), "the weights of all 6 training rows are 0, so there is nothing to learn from"),
    ],
)
def test_a_part_without_weight_is_refused(zero: tuple[int, ...], message: str) -> None:
    with pytest.raises(DataError, match=message):
        check_part_weights(dict.fromkeys(ROWS, weights(*zero)), ROWS)


@pytest.mark.parametrize("zero", [(), (6,), (9, 0, 1, 2)])
def test_single_rows_may_have_weight_zero(zero: tuple[int, ...]) -> None:
    assert check_part_weights(dict.fromkeys(ROWS, weights(*zero)), ROWS) == ()


def test_a_missing_part_and_equal_weights_are_accepted() -> None:
    assert check_part_weights({"test": np.zeros(10)}, {"test": np.arange(0)}) == ()
    assert check_part_weights(dict.fromkeys(ROWS, None), ROWS) == ()


def test_classes_without_weight_are_noted() -> None:
    (note,) = check_part_weights(dict.fromkeys(ROWS, weights(2, 3)), ROWS, CODES, ["a", "b", "c"])
    assert note == "all training rows of the class 'b' have weight 0: it cannot be learned"
    (note,) = check_part_weights(dict.fromkeys(ROWS, weights(2, 3, 4, 5)), ROWS, CODES, ["a", "b", "c"])
    assert note == "all training rows of the classes 'b', 'c' have weight 0: they cannot be learned"


@pytest.mark.parametrize("class_weights", ["none", "balanced"])
@pytest.mark.parametrize("part", ["validation", "test"])
def test_training_is_refused_before_it_begins(part: str, class_weights: str) -> None:
    parts = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    frame = pl.DataFrame(
        {
            "x": np.linspace(-1, 1, 60),
            "y": [0, 1] * 30,
            "w": [0.0 if each == part else 1.0 for each in parts],
            "part": parts,
        }
    )
    recipe = {"data": {"split": "part", "weights": "w", "class_weights": class_weights}}
    with pytest.raises(DataError, match=f"the weights of all 10 {part} rows are 0"):
        descend.train(frame, recipe, target="y")


def test_rows_to_evaluate_on_need_a_weight() -> None:
    rows = (np.linspace(-1, 1, 40)[:, None], np.arange(40) % 2)
    prepared = prepare(read(rows))
    with pytest.raises(DataError, match="the weights of all rows are 0"):
        encode_source(read(rows, weights=np.zeros(40)), prepared.schema)
