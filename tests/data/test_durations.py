import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from descend.data.durations import parse_durations


@given(st.timedeltas(dt.timedelta(days=-1000), dt.timedelta(days=1000)))
def test_durations_as_python_and_pandas_write_them(length):
    import pandas

    expected = length / dt.timedelta(days=1)
    for text in (str(length), str(pandas.Timedelta(length)), pandas.Timedelta(length).isoformat()):
        days, invalid = parse_durations(pl.Series("a", [text]))
        assert days[0] == pytest.approx(expected, abs=1e-9), text
        assert not invalid.any()


@pytest.mark.parametrize(
    ("text", "hours"),
    [("36:15", 36.25), ("PT1H30M", 1.5), ("P1W", 168), ("-PT6H", -6), ("1h30m", 1.5), ("45 min", 0.75), ("90 s", 0.025),
     ("2 days 03:00:00", 51), ("1.5 days", 36), ("2 hours, 15 minutes", 2.25), ("-1:30", -1.5),
     ("P", None), ("", None), ("5", None), ("P1Y", None), ("1:75", None), ("long", None)],
)  # fmt: skip
def test_durations(text, hours):
    days, invalid = parse_durations(pl.Series("a", [text]))
    assert days.to_list() == [None if hours is None else pytest.approx(hours / 24)]
    assert invalid.to_list() == [hours is None]


def test_values_of_other_kinds_are_no_durations():
    assert parse_durations(pl.Series("a", [True]))[1].to_list() == [True]
    assert parse_durations(pl.Series("a", [1.5, None]))[0].to_list() == [1.5, None]
