"""The stopping rule on sequences with known results."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import descend
from descend.training.stopping import Stopping


def run(stopping: Stopping, values: list[float | None], seconds: float = 0.0) -> tuple[int, str | None, int]:
    """Return the number of epochs until training stops, the reason, and the best epoch."""
    for epoch, value in enumerate(values, 1):
        reason = stopping.observe(value, seconds=seconds * epoch)
        if reason:
            return epoch, reason, stopping.best_epoch
    return len(values), None, stopping.best_epoch


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({"max_epochs": 3}, [3.0, 2.0, 1.0, 0.0], (3, "max_epochs", 3)),
        ({"max_epochs": 9, "patience": 2}, [3.0, 1.0, 2.0, 1.0, 0.5], (4, "patience", 2)),
        ({"max_epochs": 9, "patience": 2}, [3.0, 1.0, 2.0, 0.9, 5.0, 5.0], (6, "patience", 4)),
        ({"max_epochs": 9, "patience": 1, "larger_is_better": True}, [0.1, 0.3, 0.3], (3, "patience", 2)),
        ({"max_epochs": 9, "target": 0.5}, [1.0, 0.5, 0.1], (2, "target", 2)),
        ({"max_epochs": 9, "target": 0.9, "larger_is_better": True}, [0.5, 0.95], (2, "target", 2)),
        ({"max_epochs": 9, "max_seconds": 2.5}, [1.0, 1.0, 1.0, 1.0], (3, "max_seconds", 1)),
        ({"max_epochs": 9, "patience": 2, "min_improvement": 0.1}, [1.0, 0.95, 0.91], (3, "patience", 1)),
        ({"max_epochs": 9, "patience": 3, "min_improvement": 0.1}, [1.0, 0.95, 0.85, 0.8], (4, None, 3)),
        ({"max_epochs": 2}, [None, None], (2, "max_epochs", 2)),
        ({"max_epochs": 4, "patience": 2}, [math.inf, 2.0, 1.0, 1.5], (4, "max_epochs", 3)),
        ({"max_epochs": 3, "larger_is_better": True}, [-math.inf, -2.0, -1.0], (3, "max_epochs", 3)),
        ({"max_epochs": 3, "min_improvement": 0.1}, [math.inf, math.inf, 1.0], (3, "max_epochs", 3)),
        ({"max_epochs": 3, "target": 0.5}, [math.nan, 1.0, 0.4], (3, "target", 3)),
    ],
)
def test_sequences(options: dict, values: list, expected: tuple) -> None:
    assert run(Stopping(**options), values, seconds=1.0) == expected


@pytest.mark.parametrize(
    ("options", "norms", "expected"),
    [
        ({"gradient_tolerance": 0.1}, [1.0, 0.5, 0.1, 0.05], (3, "gradient_tolerance")),
        ({"gradient_tolerance": 0.1}, [1.0, 0.11, 0.2, 0.3], (4, None)),
        ({"gradient_tolerance": 0.1, "max_epochs": 2}, [1.0, 0.05], (2, "gradient_tolerance")),
        ({"gradient_tolerance": 0.1, "patience": 1}, [1.0, 0.05], (2, "gradient_tolerance")),
        ({"gradient_tolerance": 0.1, "target": 9.0}, [0.05], (1, "target")),
        ({"gradient_tolerance": 0.1}, [None, None, 0.1], (3, "gradient_tolerance")),
        ({}, [0.0, 0.0], (2, None)),
    ],
)
def test_a_vanished_gradient(options: dict, norms: list, expected: tuple) -> None:
    """Values do not improve while norms decrease; where several reasons apply, the first one is returned."""
    stopping = Stopping(**{"max_epochs": 9, **options})
    epoch, reason = 0, None
    for epoch, norm in enumerate(norms, 1):  # noqa: B007 - the last one is checked
        reason = stopping.observe(1.0, seconds=0.0, gradient_norm=norm)
        if reason:
            break
    assert (epoch, reason) == expected


def test_gradient_tolerance_in_training() -> None:
    """Linear least squares with full batches stops in the first epoch whose gradient is small enough, and not before."""
    x = np.linspace(-1, 1, 60)[:, None]
    recipe = {
        "data": {"sampling": "full"},
        "model": "linear",
        "optimizer": {"name": "sgd", "lr": 0.2},
        "regularize": {"weight_decay": 0.0},
        "schedule": {"warmup": 0.0},
        "stop": {"max_epochs": 500, "average": 0.0, "patience": None, "gradient_tolerance": 1e-3},
        "engine": {"threads": 1, "device": "cpu"},
    }
    run = descend.train((x, 3 * x[:, 0] + 1), recipe)
    norms = [record["gradient_norm"] for record in run.history]
    assert run.metrics["stopped"] == "gradient_tolerance"
    assert norms[-1] <= 1e-3 < min(norms[:-1])
    assert 10 < len(norms) < 200
    loose = descend.train(
        (x, 3 * x[:, 0] + 1), descend.Recipe(**recipe).replace({"stop.gradient_tolerance": 0.1})
    )
    assert loose.metrics["epochs"] < run.metrics["epochs"]
    assert [r["gradient_norm"] for r in loose.history] == norms[: loose.metrics["epochs"]]


def test_a_negative_score_can_improve() -> None:
    """R squared starts below zero; a fraction of it must not reverse the comparison."""
    stopping = Stopping(max_epochs=9, larger_is_better=True, min_improvement=0.01)
    assert run(stopping, [-2.0, -1.0, -0.995])[2] == 2


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 29))
def test_a_restored_state_continues_the_count(values: list[float], patience: int, cut: int) -> None:
    whole, first, second = (Stopping(max_epochs=99, patience=patience) for _ in range(3))
    expected = [whole.observe(value, seconds=0) for value in values]
    for value in values[:cut]:
        first.observe(value, seconds=0)
    second.load_state_dict(first.state_dict())
    assert [second.observe(value, seconds=0) for value in values[cut:]] == expected[cut:]
    assert second.best_epoch == whole.best_epoch


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_the_best_epoch_is_the_first_minimum(values: list[float]) -> None:
    stopping = Stopping(max_epochs=99)
    for value in values:
        stopping.observe(value, seconds=0)
    assert stopping.best_epoch == values.index(min(values)) + 1
    assert math.isclose(stopping.best, min(values))


@pytest.mark.parametrize(
    ("values", "patience", "expected"),
    [
        ([None, None, 0.5, None, 0.4], None, (5, None, 3)),
        ([None, 0.5, None, None], 2, (4, "patience", 2)),
        ([0.5, None, 0.6], None, (3, None, 3)),
        ([None, None, None], 2, (3, None, 3)),
    ],
)
def test_an_undefined_value_is_never_the_best(
    values: list[float | None], patience: int | None, expected: tuple[int, str | None, int]
) -> None:
    """Until a value is defined, the latest weights are the best."""
    stopping = Stopping(max_epochs=9, larger_is_better=True, patience=patience)
    assert run(stopping, values) == expected


def test_an_undefined_value_does_not_reach_the_target() -> None:
    assert run(Stopping(max_epochs=9, target=0.5, larger_is_better=True), [None, 0.7]) == (2, "target", 2)
