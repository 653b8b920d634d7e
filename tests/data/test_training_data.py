"""The specified target columns."""

from __future__ import annotations

from typing import Any

import pytest

import descend
from descend import TrainingData
from descend.errors import UserError


def test_the_names_of_targets() -> None:
    assert TrainingData("iris").targets == ()
    assert TrainingData("iris", target="y").targets == ("y",)
    assert TrainingData("iris", target=["a", "b"]).targets == ("a", "b")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (["y", "y"], "target: 'y' is listed twice"),
        (["a", "y", "b", "y"], "target: 'y' is listed twice"),
        ("y, y", "data.target: 'y' is listed twice"),
        (2.5, "target: expected the name of a column or a list of names, got a float"),
    ],
)
def test_targets_that_cannot_be_are_refused(target: Any, message: str) -> None:
    table = {"a": [0, 1] * 10, "b": [0, 0, 1, 1] * 5, "x": list(range(20)), "y": [1, 0] * 10}
    with pytest.raises(UserError, match=message):
        descend.train(table, target=target)
