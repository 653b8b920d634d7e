"""Numbers and incomplete dates that are read by a declared pattern."""

import datetime as dt

import polars as pl
import pytest

from descend.data.dates import parse_dates, parse_times

DATES = [dt.date(2011, 3, 2), dt.date(1999, 12, 31), dt.date(2020, 11, 20)]


@pytest.mark.parametrize("form", ["%d%m%Y", "%Y%d%m", "%m%d%Y", "%d%m%y", "%Y%j", "%Y%m%d"])
@pytest.mark.parametrize("kind", [pl.String, pl.Float64, pl.Int128])
def test_numbers_follow_the_pattern_as_strings_do(form, kind):
    cells = pl.Series([one.strftime(form) for one in DATES])
    column = cells if kind == pl.String else cells.cast(pl.Int64).cast(kind)
    days, invalid = parse_dates(column, form)
    assert days.to_list() == [(one - dt.date(1970, 1, 1)).days for one in DATES]
    assert not invalid.any()


@pytest.mark.parametrize("form", ["%b %y", "%m/%y", "%Y-%m", "%Y"])
def test_a_pattern_without_a_day_means_the_first(form):
    firsts = [one.replace(day=1, month=1 if form == "%Y" else one.month) for one in DATES]
    days, _ = parse_dates(pl.Series([one.strftime(form) for one in DATES]), form)
    assert days.to_list() == [(one - dt.date(1970, 1, 1)).days for one in firsts]


def test_a_fraction_is_no_date_of_a_pattern():
    assert parse_dates(pl.Series([2032011.5]), "%d%m%Y")[1].to_list() == [True]
    assert parse_times(pl.Series([905.0, 1430.0, 2561.0]), "%H%M")[0].to_list() == [
        pytest.approx((9 * 60 + 5) / 1440), pytest.approx((14 * 60 + 30) / 1440), None,
    ]  # fmt: skip


def test_days_of_excel():
    days, _ = parse_dates(pl.Series([44197.0, 60.5, 25569.0]), "excel")
    expected = [dt.datetime(2021, 1, 1), dt.datetime(1900, 2, 28, 12), dt.datetime(1970, 1, 1)]
    assert days.to_list() == [(one - dt.datetime(1970, 1, 1)) / dt.timedelta(days=1) for one in expected]
