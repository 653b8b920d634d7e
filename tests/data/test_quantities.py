from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.column import Column
from descend.data.quantities import shown_duration, shown_quantities

EPOCH = dt.datetime(1970, 1, 1)


def days(*instant: int) -> float:
    return (dt.datetime(*instant) - EPOCH) / dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("kind", "values", "written"),
    [
        ("numeric", [2015.0, 2023.0], ["2015", "2023"]),
        ("numeric", [20231105.0, -3.0], ["20231105", "-3"]),
        ("numeric", [1.7e9, 1.7e9 + 0.5], ["1700000000", "1700000000.5"]),
        ("numeric", [0.001, 123456.75], ["0.001", "123457"]),
        ("numeric", [1234567.8, 0.5], ["1234568", "0.5"]),
        ("numeric", [1e-9, 3e20], ["1e-09", "3e+20"]),
        ("numeric", [0.0, -0.0], ["0", "0"]),
        ("date", [days(2021, 1, 1), days(2023, 6, 19)], ["2021-01-01", "2023-06-19"]),
        ("date", [days(2021, 1, 1, 7), days(2023, 6, 19, 9)], ["2021-01-01", "2023-06-19"]),
        ("date", [days(2021, 1, 1, 7), days(2021, 1, 1, 9, 40)], ["2021-01-01 07:00", "2021-01-01 09:40"]),
        ("date", [days(2021, 1, 1), days(2021, 1, 2)], ["2021-01-01", "2021-01-02"]),
        ("date", [days(1969, 12, 31, 23, 59, 1), days(1969, 12, 31, 23, 59, 2)],
         ["1969-12-31 23:59:01", "1969-12-31 23:59:02"]),
        ("date", [1e300], ["1e+300"]),
        ("time", [0.0, (23 * 3600 + 59 * 60 + 59) / 86400], ["00:00", "23:59"]),
        ("time", [0.5, 0.5 + 30 / 86400], ["12:00:00", "12:00:30"]),
        ("duration", [0.5 / 24, 3.0], ["30 min", "3 days"]),
    ],
)  # fmt: skip
def test_quantities(kind: str, values: list[float], written: list[str]) -> None:
    assert shown_quantities(kind, values) == written


@given(
    st.lists(
        st.datetimes(dt.datetime(1800, 1, 1), dt.datetime(2200, 1, 1)), min_size=2, max_size=2, unique=True
    )
)
def test_different_dates_have_different_texts_that_are_these_dates(pair: list[dt.datetime]) -> None:
    pair = [one.replace(microsecond=0) for one in pair]
    texts = shown_quantities("date", [(one - EPOCH) / dt.timedelta(days=1) for one in pair])
    assert (texts[0] == texts[1]) == (pair[0] == pair[1])
    assert all(str(one).startswith(text) for one, text in zip(pair, texts, strict=True))


@given(st.floats(-1e14, 1e14), st.floats(1e-3, 1e3))
def test_different_numbers_have_different_texts(value: float, difference: float) -> None:
    other = value + difference
    low, high = shown_quantities("numeric", [value, other], 4)
    assert (low == high) == (value == other)


@pytest.mark.parametrize(
    ("value", "written"),
    [(2.0, "2 days"), (1.0, "24 h"), (1.5 / 24, "1 h 30 min"), (59.9999999999 / 86400, "1 min"), (1 / 86400, "1 s"),
     (3599.9 / 86400, "1 h"), (-0.25, "-6 h"), (400.0, "400 days")],
)  # fmt: skip
def test_durations(value: float, written: str) -> None:
    assert shown_duration(value) == written


def test_a_column_shows_its_limits_completely() -> None:
    assert Column("day", "numeric", low=20231105, high=20231106).values == "20231105 to 20231106"
    assert Column("at", "date", low=days(2021, 3, 1, 6), high=days(2021, 3, 1, 18)).values == (
        "2021-03-01 06:00 to 2021-03-01 18:00"
    )
