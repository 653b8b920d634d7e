from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.report.formatting import amount, duration, listing, score, short


@given(st.floats(-1e300, 1e300))
def test_amounts_keep_four_digits(value: float) -> None:
    written = float(amount(value).replace(",", ""))
    assert math.isclose(written, value, rel_tol=5.001e-4, abs_tol=0.0) or value == written == 0


@pytest.mark.parametrize(
    ("value", "written"),
    [(0.1, "0.1"), (12345678.0, "12,350,000"), (99999.0, "100,000"), (-0.00123, "-0.00123"), (1e12, "1e+12")],
)
def test_amounts(value: float, written: str) -> None:
    assert amount(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0 ms"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.6, "1 h 00 min"), (86400, "24 h 00 min")],
)
def test_durations(seconds: float, written: str) -> None:
    assert duration(seconds) == written


@given(st.text(), st.integers(4, 30))
def test_shortened_names_keep_both_ends(name: str, limit: int) -> None:
    cut = short(name, limit)
    assert len(cut) <= limit
    assert cut == name or (name.startswith(cut.split("…")[0]) and name.endswith(cut[-1]))


def test_listing() -> None:
    assert [listing([]), listing(["a"]), listing(["a", "b", "c"]), listing(list("abcd"), 1)] == [
        "",
        "a",
        "a, b and c",
        "a and 3 more",
    ]


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0.0"),
        (1.0, "100.0"),
        (0.99996, "99.996"),
        (0.0002, "0.02"),
        (0.1, "10.0"),
        (0.0125, "1.2"),
        (-1, "-100.0"),
    ],
)
def test_percentages_are_not_rounded_to_0_or_100(value: float, written: str) -> None:
    assert score("accuracy", value) == written + "\N{NO-BREAK SPACE}%"
