"""Positions on axes, against their formulas."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.report.marks import Axis, Bars, Figure, Interval, Line, Mark, Rule
from descend.report.scales import Scale, scales_of

FINITE = st.floats(-1.7e308, 1.7e308)


def figure(*marks: Mark, x: Axis = Axis(), y: Axis = Axis()) -> Figure:  # noqa: B008 - an axis is immutable
    return Figure("k", "t", "l", marks, x, y)


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.floats(0, 1))
def test_a_linear_scale_is_affine(low: float, length: float, share: float) -> None:
    at = Scale(low, low + length).at(low + share * length)
    assert at == pytest.approx(100 * share, abs=1e-4 * max(1.0, abs(low) / length) * 1e-2)


@given(st.floats(-100, 100), st.floats(0.01, 100), st.floats(0, 1))
def test_a_logarithmic_scale_is_affine_in_the_exponent(low: float, length: float, share: float) -> None:
    scale = Scale(10.0**low, 10.0 ** (low + length), log=True)
    assert scale.at(10.0 ** (low + share * length)) == pytest.approx(100 * share, abs=1e-6)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_not_a_finite_number_has_no_position(value: float | None) -> None:
    assert Scale(0.0, 1.0).at(value) is None
    assert Scale(1.0, 2.0, log=True).at(value) is None
    assert Scale(1.0, 2.0, log=True).at(-1.0) is None


@given(
    st.lists(FINITE | st.none() | st.sampled_from([math.nan, math.inf]), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_the_limits_contain_every_value(values: list[float | None], log: bool, zero: bool) -> None:
    line = Line(range(len(values)), values, "ink")
    scale = scales_of(figure(line, y=Axis(log=log, zero=zero)))[1]
    assert math.isfinite(scale.low)
    assert scale.low < scale.high
    places = [at for value in values if (at := scale.at(value)) is not None]
    assert all(-1e-9 <= at <= 100 + 1e-9 for at in places)
    known = [
        value for value in values if value is not None and math.isfinite(value) and (value > 0 or not log)
    ]
    assert len(places) == len(known)
    if zero and not log and known and min(known) >= 0 < max(known):
        assert scale.low == 0


def test_bars_begin_at_zero_and_have_their_width() -> None:
    x, y = scales_of(figure(Bars([1.0, 2.0], [3.0, 5.0], 1.0, "ink", ["a", "b"]), y=Axis(zero=True)))
    assert y.low == 0
    assert y.high == pytest.approx(5.2)
    assert (x.low, x.high) == pytest.approx((0.42, 2.58))


def test_the_first_name_of_a_vertical_axis_is_on_top() -> None:
    x, y = scales_of(figure(x=Axis(names=["a", "b"]), y=Axis(names=["a", "b", "c", "d"])))
    assert [x.at(0.0), x.at(1.0)] == [25.0, 75.0]
    assert [y.at(float(row)) for row in range(4)] == [87.5, 62.5, 37.5, 12.5]


def test_intervals_and_rules_are_within_the_limits() -> None:
    x, _ = scales_of(figure(Interval(-2.0, 0.0, 2.0, 0.0, "ink"), Rule(4.0, "ink")))
    assert (x.low, x.high) == pytest.approx((-2.24, 4.24))


@pytest.mark.parametrize(("value", "high"), [(0.4, 1.0), (1.0, 1.0), (0.0, 1.0)])
def test_a_constant_share_is_on_an_axis_from_0_to_100_percent(value: float, high: float) -> None:
    y = scales_of(figure(Line([0.0, 1.0], [value] * 2, "ink"), y=Axis(style="share")))[1]
    assert (y.low, y.high) == (0.0, high)
