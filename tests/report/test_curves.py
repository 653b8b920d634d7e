from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.metrics import METRICS, better
from descend.report.curves import Curve, Series, _is_error, downsample, evenly_spaced, learning_curves
from descend.report.marks import Figure, Line, Points, Rule
from descend.report.scales import scales_of


@given(st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(2, 60))
def test_downsampling_keeps_extremes_ends_and_order(y: list[float | None], limit: int) -> None:
    x = list(range(len(y)))
    kept_x, kept_y = downsample(x, y, limit)
    assert len(kept_x) <= max(limit + 2, 2)
    assert kept_x == sorted(kept_x)
    assert (kept_x[0], kept_x[-1]) == (0, len(y) - 1)
    assert all(y[int(place)] == value for place, value in zip(kept_x, kept_y, strict=True))
    known = [value for value in y if value is not None]
    if known:
        assert {min(known), max(known)} <= set(kept_y)


def test_downsampling_keeps_the_outline_of_every_segment() -> None:
    y = np.random.default_rng(0).standard_normal(5000)
    x, kept = map(np.array, downsample(list(range(5000)), y.tolist(), 1000))
    for start in range(0, 5000, 10):
        inside = kept[(x >= start) & (x < start + 10)]
        assert inside.max() == y[start : start + 10].max()
        assert inside.min() == y[start : start + 10].min()


@given(st.integers(1, 3000), st.integers(2, 300))
def test_evenly_spaced_indices_are_distinct_and_contain_both_ends(n: int, limit: int) -> None:
    rows = evenly_spaced(n, limit)
    assert len(rows) == min(n, limit)
    assert (rows[0], rows[-1]) == (0, n - 1)
    gaps = np.diff(rows)
    assert n == 1 or 1 <= gaps.min() <= gaps.max() <= gaps.min() + 1


@pytest.mark.parametrize("best", [1, 777, 778, 2999, 3000])
def test_values_of_a_long_training_are_described_at_the_kept_epoch_too(best: int) -> None:
    epochs = [float(epoch) for epoch in range(1, 3001)]
    curve = Curve("k", "t", [Series("validation", "validation", epochs)]).figure(epochs, best)
    assert curve is not None
    assert curve.columns is not None
    assert len(curve.columns.x) == len(curve.columns.texts) == 100
    assert list(curve.columns.x) == sorted(set(curve.columns.x))
    assert f"epoch {best:,}, kept\nvalidation {best}" in curve.columns.texts


def figure(values: list[float | None], **more: object) -> Figure:
    curve = Curve("k", "Title", [Series("validation", "validation", values)], "unit", **more).figure(
        [float(epoch) for epoch in range(1, len(values) + 1)], 2
    )
    assert curve is not None
    return curve


@pytest.mark.parametrize(
    ("values", "logarithmic"), [([1.0, 30.0], False), ([1.0, 31.0], True), ([0.0, 99.0], False)]
)
def test_the_axis_is_logarithmic_for_positive_values_of_a_large_range(
    values: list[float | None], logarithmic: bool
) -> None:
    axis = figure(values).y
    assert axis.log == logarithmic
    assert ("log scale" in axis.title) == logarithmic


@pytest.mark.parametrize("value", [1e-3, -2.0, 0.0])
def test_a_constant_has_a_range_around_it(value: float) -> None:
    scale = scales_of(figure([value, value]))[1]
    assert scale.low < scale.high
    assert scale.low <= value <= scale.high
    assert scale.high - scale.low <= max(2 * abs(value), 2)


def test_the_kept_epoch_is_marked() -> None:
    curve = figure([3.0, 1.0, 2.0])
    rule, _, dot = curve.marks
    assert isinstance(rule, Rule)
    assert rule.x == 2
    assert isinstance(dot, Points)
    assert (dot.x, dot.y) == ([2], [1.0])
    assert curve.columns is not None
    assert curve.columns.texts == [
        "epoch 1\nvalidation 3",
        "epoch 2, kept\nvalidation 1",
        "epoch 3\nvalidation 2",
    ]
    assert "1 at epoch 2, which was kept" in curve.label


def test_an_epoch_without_a_value_has_no_mark() -> None:
    curve = figure([3.0, None, 2.0])
    assert [type(mark) for mark in curve.marks] == [Rule, Line]


def test_missing_values_are_not_drawn() -> None:
    assert Curve("k", "t", [Series("validation", "validation", [None, None])]).figure([1, 2], 1) is None


def test_no_figures_without_epochs() -> None:
    none: tuple[list[float | None], list[float | None]] = ([], [])
    figures = learning_curves(
        [], None, loss=none, loss_name="", main="r2", scores=none, lr=[], gradient=[], seconds=[]
    )
    assert figures == []


def test_one_epoch_is_a_visible_point() -> None:
    curve = Curve("k", "t", [Series("validation", "validation", [0.5])]).figure([1.0], 1)
    assert curve is not None
    assert isinstance(curve.marks[1], Line)
    assert curve.marks[1].dots
    scale = scales_of(curve)[0]
    assert scale.low < 1 < scale.high


@pytest.mark.parametrize(
    ("metric", "logarithmic"),
    [("r2", False), ("matthews", False), ("accuracy", False), ("metric of one's own", False), ("rmse", True)],
)
def test_only_errors_have_a_logarithmic_axis(metric: str, logarithmic: bool) -> None:
    rising: tuple[list[float | None], list[float | None]] = ([0.01, 0.5, 0.9], [0.01, 0.5, 0.9])
    flat: list[float | None] = [1.0] * 3
    figures = learning_curves(
        [1.0, 2.0, 3.0],
        2,
        loss=(flat, flat),
        loss_name="mse",
        main=metric,
        scores=rising,
        lr=flat,
        gradient=flat,
        seconds=flat,
    )
    assert next(one for one in figures if one.key == "metric").y.log == logarithmic


def test_errors_are_the_metrics_of_which_less_is_better() -> None:
    known = {*METRICS, "pinball_0.9", "loss", "objective"}
    assert {name for name in known if _is_error(name)} == {name for name in known if better(name) == "lower"}
