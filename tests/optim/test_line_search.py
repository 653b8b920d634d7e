"""Tests of line searches against the conditions they guarantee, and against SciPy."""

import math

import pytest
import scipy.optimize
from hypothesis import given
from hypothesis import strategies as st

from descend.optim.line_search import armijo, strong_wolfe

CURVES = {
    "parabola": (lambda t: (t - 3.0) ** 2, lambda t: 2 * (t - 3.0)),
    "far parabola": (lambda t: 1e-3 * (t - 300.0) ** 2, lambda t: 2e-3 * (t - 300.0)),
    "near parabola": (lambda t: 1e4 * (t - 1e-3) ** 2, lambda t: 2e4 * (t - 1e-3)),
    # Moré and Thuente 1994, functions 1 and 2.
    "rational": (lambda t: -t / (t * t + 2), lambda t: (t * t - 2) / (t * t + 2) ** 2),
    "steep": (lambda t: (t + 0.004) ** 5 - 2 * (t + 0.004) ** 4, lambda t: 5 * (t + 0.004) ** 4 - 8 * (t + 0.004) ** 3),
}  # fmt: skip


@pytest.mark.parametrize("initial", [1e-3, 0.1, 1.0, 10.0, 1e3])
@pytest.mark.parametrize("c2", [0.9, 0.1])
@pytest.mark.parametrize("name", ["parabola", "far parabola", "near parabola", "rational", "steep"])
def test_strong_wolfe_holds(name, c2, initial):
    f, df = CURVES[name]
    value, slope = f(0.0), df(0.0)
    assert slope < 0
    found = strong_wolfe(lambda t: (f(t), df(t)), value, slope, c2=c2, initial=initial, max_eval=40)
    assert found is not None
    assert found.value == f(found.t)
    assert found.value <= value + 1e-4 * found.t * slope
    assert abs(found.slope) <= -c2 * slope


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(0.05, 0.9))
def test_a_parabola_is_searched_as_exactly_as_requested(at, curvature, c2):
    f, df = (lambda t: curvature * (t - at) ** 2 / 2), (lambda t: curvature * (t - at))
    found = strong_wolfe(lambda t: (f(t), df(t)), f(0.0), df(0.0), c2=c2, max_eval=60)
    assert found is not None
    assert abs(found.t - at) <= c2 * at * (1 + 1e-9)


def test_about_as_few_evaluations_as_scipy():
    for name in ("parabola", "rational", "steep"):
        f, df = CURVES[name]
        calls: list[float] = []

        def at(t, f=f, df=df, calls=calls):
            calls.append(t)
            return f(t), df(t)

        assert strong_wolfe(at, f(0.0), df(0.0), c2=0.1) is not None
        _, evaluations, *_ = scipy.optimize.line_search(
            lambda x, f=f: f(x), lambda x, df=df: df(x), 0.0, 1.0, c2=0.1, maxiter=30
        )
        assert len(calls) <= evaluations + 2, name


def test_ascent_directions_and_nan_yield_no_step():
    assert strong_wolfe(lambda t: (t, 1.0), 0.0, 1.0) is None
    assert armijo(lambda t: t, 0.0, 1.0) is None
    assert strong_wolfe(lambda t: (math.nan, math.nan), 0.0, -1.0) is None
    assert armijo(lambda t: math.nan, 0.0, -1.0) is None


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_from_a_start_without_a_finite_loss_there_is_no_step(value):
    """Any step would be a decrease from an infinite loss."""
    assert armijo(lambda t: 1.0, value, -1.0) is None
    assert strong_wolfe(lambda t: (1.0, 0.0), value, -1.0) is None


def test_a_loss_of_minus_infinity_is_not_a_decrease():
    assert armijo(lambda t: -math.inf, 1.0, -1.0) is None
    assert strong_wolfe(lambda t: (-math.inf, -1.0), 1.0, -1.0) is None


def test_nan_beyond_a_point_is_avoided():
    f, df = (lambda t: -t if t < 0.3 else math.nan), (lambda t: -1.0 if t < 0.3 else math.nan)
    found = armijo(f, 0.0, -1.0)
    assert found is not None
    assert found.t == 0.25
    found = strong_wolfe(lambda t: (f(t), df(t)), 0.0, -1.0)
    assert found is not None
    assert found.t < 0.3


@pytest.mark.parametrize("initial", [math.inf, math.nan])
def test_a_first_step_that_is_not_finite_ends_the_search(initial):
    """A learning rate may become infinite after construction; halving infinity would never end."""
    assert armijo(lambda t: t * t - t, 0.0, -1.0, initial=initial) is None
    assert strong_wolfe(lambda t: (t * t - t, 2 * t - 1), 0.0, -1.0, initial=initial) is None
